//! The filters of a JSONPath: `[?@.price < 10 && @.title]`.

use std::borrow::Cow;

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, Literal, Segment, Selector, SingularQuery, SingularQuerySegment, Test, TestFunction,
};
use serde_json::Value;

use super::super::super::regex::cache;
use super::{Walk, n_children, place};

/// A value, or the "nothing" of the standard.
type Operand<'a> = Option<Cow<'a, Value>>;

/// The longest text that `match` and `search` look at, in bytes.
const MAX_SEARCHED: usize = 64 << 10;

impl<'a> Walk<'a> {
    pub(super) fn holds(&mut self, filter: &Filter, current: &'a Value) -> Result<bool, String> {
        match filter {
            Filter::Or(filters) => any(filters, true, |filter| self.holds(filter, current)),
            Filter::And(filters) => any(filters, false, |filter| self.holds(filter, current)),
            Filter::Atom(FilterAtom::Filter { expr, not }) => Ok(self.holds(expr, current)? != *not),
            Filter::Atom(FilterAtom::Test { expr, not }) => Ok(self.passes(expr, current)? != *not),
            Filter::Atom(FilterAtom::Comparison(comparison)) => self.compares(comparison, current),
        }
    }

    fn passes(&mut self, test: &Test, current: &'a Value) -> Result<bool, String> {
        match test {
            Test::RelQuery(segments) => Ok(!self.follow(segments, current)?.is_empty()),
            Test::AbsQuery(query) => Ok(!self.follow(&query.segments, self.root)?.is_empty()),
            Test::Function(function) => match &**function {
                TestFunction::Match(text, pattern) => self.searches(text, pattern, current, true),
                TestFunction::Search(text, pattern) => self.searches(text, pattern, current, false),
                other => Ok(self.function(other, current)?.is_some()),
            },
        }
    }

    fn compares(&mut self, comparison: &Comparison, current: &'a Value) -> Result<bool, String> {
        let (left, right) = comparison.vals();
        let (left, right) = (self.operand(left, current)?, self.operand(right, current)?);
        Ok(match comparison {
            Comparison::Eq(..) => equal(&left, &right),
            Comparison::Ne(..) => !equal(&left, &right),
            Comparison::Lt(..) => less(&left, &right),
            Comparison::Gt(..) => less(&right, &left),
            Comparison::Lte(..) => less(&left, &right) || equal(&left, &right),
            Comparison::Gte(..) => less(&right, &left) || equal(&left, &right),
        })
    }

    fn operand(&mut self, operand: &Comparable, current: &'a Value) -> Result<Operand<'a>, String> {
        let (segments, from) = match operand {
            Comparable::Literal(literal) => return Ok(Some(Cow::Owned(value(literal)))),
            Comparable::Function(function) => return self.function(function, current),
            Comparable::SingularQuery(SingularQuery::Current(segments)) => (segments, current),
            Comparable::SingularQuery(SingularQuery::Root(segments)) => (segments, self.root),
        };
        self.step(segments.len())?;
        let found = segments.iter().try_fold(from, |node, segment| match segment {
            SingularQuerySegment::Name(name) => node.get(name),
            SingularQuerySegment::Index(index) => node.as_array().and_then(|items| items.get(place(*index, items.len())?)),
        });
        Ok(found.map(Cow::Borrowed))
    }

    fn function(&mut self, function: &TestFunction, current: &'a Value) -> Result<Operand<'a>, String> {
        Ok(match function {
            TestFunction::Length(argument) => self.argument(argument, current)?.and_then(|value| match &*value {
                Value::String(text) => Some(Cow::Owned(text.chars().count().into())),
                Value::Array(_) | Value::Object(_) => Some(Cow::Owned(n_children(&value).into())),
                _ => None,
            }),
            TestFunction::Count(argument) => Some(Cow::Owned(self.nodes(argument, current)?.len().into())),
            TestFunction::Value(argument) => self.argument(argument, current)?,
            TestFunction::Match(..) | TestFunction::Search(..) | TestFunction::Custom(..) => None,
        })
    }

    /// The one value of an argument; nothing where there is none, or several.
    fn argument(&mut self, argument: &FnArg, current: &'a Value) -> Result<Operand<'a>, String> {
        if let FnArg::Literal(literal) = argument {
            return Ok(Some(Cow::Owned(value(literal))));
        }
        if let FnArg::Test(test) = argument
            && let Test::Function(function) = &**test
        {
            return self.function(function, current);
        }
        let nodes = self.nodes(argument, current)?;
        Ok(if let [node] = nodes.as_slice() { Some(Cow::Borrowed(node)) } else { None })
    }

    fn nodes(&mut self, argument: &FnArg, current: &'a Value) -> Result<Vec<&'a Value>, String> {
        let FnArg::Test(test) = argument else { return Ok(Vec::new()) };
        match &**test {
            Test::RelQuery(segments) => self.follow(segments, current),
            Test::AbsQuery(query) => self.follow(&query.segments, self.root),
            Test::Function(_) => Ok(Vec::new()),
        }
    }

    fn searches(&mut self, text: &FnArg, pattern: &FnArg, current: &'a Value, whole: bool) -> Result<bool, String> {
        let (text, pattern) = (self.argument(text, current)?, self.argument(pattern, current)?);
        let (Some(Value::String(text)), Some(Value::String(pattern))) = (text.as_deref(), pattern.as_deref()) else { return Ok(false) };
        if text.len() > MAX_SEARCHED {
            return Err(format!("`match` and `search` look at no text of more than {} KiB", MAX_SEARCHED >> 10));
        }
        self.step(10 + text.len() / 16)?;
        let pattern = cache::find(&if whole { format!("^(?:{pattern})$") } else { pattern.clone() })?;
        Ok(pattern.regex.is_match(text))
    }
}

/// Whether one of the filters comes out as `wanted`, as `or` (true) has it; the contrary, as `and` (false) has it.
fn any(filters: &[Filter], wanted: bool, mut holds: impl FnMut(&Filter) -> Result<bool, String>) -> Result<bool, String> {
    for filter in filters {
        if holds(filter)? == wanted {
            return Ok(wanted);
        }
    }
    Ok(!wanted)
}

/// Finds functions that are not the standard's: they would always be false.
pub(super) fn check(segments: &[Segment]) -> Result<(), String> {
    segments.iter().try_for_each(|segment| match segment {
        Segment::Descendant(inner) => check(std::slice::from_ref(inner)),
        Segment::Selector(selector) => check_selector(selector),
        Segment::Selectors(selectors) => selectors.iter().try_for_each(check_selector),
    })
}

fn check_selector(selector: &Selector) -> Result<(), String> {
    if let Selector::Filter(filter) = selector { check_filter(filter) } else { Ok(()) }
}

fn check_filter(filter: &Filter) -> Result<(), String> {
    match filter {
        Filter::Or(filters) | Filter::And(filters) => filters.iter().try_for_each(check_filter),
        Filter::Atom(FilterAtom::Filter { expr, .. }) => check_filter(expr),
        Filter::Atom(FilterAtom::Test { expr, .. }) => check_test(expr),
        Filter::Atom(FilterAtom::Comparison(comparison)) => [comparison.vals().0, comparison.vals().1]
            .into_iter()
            .try_for_each(|operand| if let Comparable::Function(function) = operand { check_function(function) } else { Ok(()) }),
    }
}

fn check_test(test: &Test) -> Result<(), String> {
    match test {
        Test::RelQuery(segments) => check(segments),
        Test::AbsQuery(query) => check(&query.segments),
        Test::Function(function) => check_function(function),
    }
}

fn check_function(function: &TestFunction) -> Result<(), String> {
    let of = |argument: &FnArg| if let FnArg::Test(test) = argument { check_test(test) } else { Ok(()) };
    match function {
        TestFunction::Custom(name, _) => Err(format!("there is no function `{name}`")),
        TestFunction::Length(argument) => of(argument),
        TestFunction::Value(argument) | TestFunction::Count(argument) => of(argument),
        TestFunction::Search(text, pattern) | TestFunction::Match(text, pattern) => of(text).and_then(|()| of(pattern)),
    }
}

fn value(literal: &Literal) -> Value {
    match literal {
        Literal::Int(number) => (*number).into(),
        Literal::Float(number) => (*number).into(),
        Literal::String(text) => text.as_str().into(),
        Literal::Bool(flag) => (*flag).into(),
        Literal::Null => Value::Null,
    }
}

fn equal(left: &Operand, right: &Operand) -> bool {
    match (left.as_deref(), right.as_deref()) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

fn less(left: &Operand, right: &Operand) -> bool {
    match (left.as_deref(), right.as_deref()) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left.as_f64() < right.as_f64(),
        (Some(Value::String(left)), Some(Value::String(right))) => left < right,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Path;

    #[test]
    fn filters_hold_as_the_standard_says() {
        let value = json!({ "max": 10, "books": [
            { "t": "Sword", "p": 8.0, "tags": ["a", "b"] }, { "t": "Moby Dick", "p": 22.5, "isbn": null }, { "t": "z", "p": 10 },
        ] });
        for (filter, expected) in [
            ("@.p < 10", vec!["Sword"]),
            ("@.p <= $.max", vec!["Sword", "z"]),
            ("@.p == 8", vec!["Sword"]),
            ("@.t > 'S' && @.p != 10", vec!["Sword"]),
            ("@.isbn", vec!["Moby Dick"]),
            ("!@.isbn", vec!["Sword", "z"]),
            ("@.isbn == null", vec!["Moby Dick"]),
            ("@.isbn == @.nothing", vec!["Sword", "z"]),
            ("(@.p > 20 || @.t == 'z') && @.t", vec!["Moby Dick", "z"]),
            ("!(@.p > 20)", vec!["Sword", "z"]),
            ("@.tags[?@ == 'b']", vec!["Sword"]),
            ("length(@.t) == 1", vec!["z"]),
            ("length(@.tags) == 2", vec!["Sword"]),
            ("count(@.*) > 2", vec!["Sword", "Moby Dick"]),
            ("value(@..isbn) == null", vec!["Moby Dick"]),
            ("search(@.t, '[oO]b')", vec!["Moby Dick"]),
            ("match(@.t, 'z|x')", vec!["z"]),
            ("match(@.t, 'ob')", vec![]),
            ("@.p < 'x'", vec![]),
        ] {
            let path = Path::parse(&format!("$.books[?{filter}].t")).unwrap();
            let found: Vec<&str> = path.find(&value).unwrap().into_iter().filter_map(Value::as_str).collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
}
