//! What a VM's callbacks may ask about the call that is under way: whose it is, and the fields of the hook's argument.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mlua::{Lua, Table, Value as Lv};
use serde_json::Value;

use super::RunView;
use super::change::{Change, Now};
use super::convert::{self, Misfit, Origins};
use super::meter::Meter;
use super::script::Folder;
use super::world::{Nowhere, World};
use super::{vm, watch};
use crate::chat::Object;

/// The call that a VM is busy with; its Lua state has it as application data.
pub(super) struct Context {
    /// The script, as the configuration names it.
    pub script: Arc<str>,
    /// The run's id.
    pub run: Arc<str>,
    /// The files that the script may require.
    pub folder: Arc<Folder>,
    /// Those that it has required in this run.
    pub modules: Table,
    pub meter: Arc<Meter>,
    pub view: Arc<RunView>,
    /// What the script may reach, and how far its run is.
    pub world: Arc<dyn World>,
    /// Lines that the call has logged.
    pub n_lines: u32,
    /// Verdicts that the call has made, returned or not.
    pub n_verdicts: u32,
    /// The hook's argument; none while the script itself runs.
    pub argument: Option<Argument>,
    /// What a test looks at and steers; none in the gateway.
    pub trial: Option<Trial>,
}

/// What a test has of its own.
#[derive(Default)]
pub(super) struct Trial {
    /// The time that scripts are told, in seconds since 1970; the real one while it is none.
    pub clock: Option<f64>,
    /// The lines that were logged, as `level message fields`.
    pub lines: Vec<String>,
}

impl Context {
    /// A call of the script outside any run, which reaches nothing.
    pub(super) fn new(script: Arc<str>, folder: Arc<Folder>, modules: Table, meter: Arc<Meter>) -> Context {
        Context {
            script,
            run: "".into(),
            folder,
            modules,
            meter,
            view: Arc::default(),
            world: Arc::new(Nowhere),
            n_lines: 0,
            n_verdicts: 0,
            argument: None,
            trial: None,
        }
    }
}

/// The table that a hook gets. Fields that are tables are made when they are first read, and only those are read back.
pub(super) struct Argument {
    /// What scripts call it: `prompt`.
    name: &'static str,
    /// The fields before the hook.
    fields: Object,
    /// The address of the Lua table.
    table: usize,
    /// A table with what the gateway put into the Lua table.
    given: Option<Table>,
    /// Fields that were made into tables.
    read: HashMap<String, Origins>,
    /// Fields that were set before anybody read them.
    written: HashSet<String>,
}

impl Argument {
    pub(super) fn new(name: &'static str, fields: Object) -> Self {
        Argument { name, fields, table: 0, given: None, read: HashMap::new(), written: HashSet::new() }
    }

    /// The table for the hook, with the fields that cost nothing.
    pub(super) fn open(&mut self, lua: &Lua, metatable: &Table) -> mlua::Result<Table> {
        let fill = || {
            let scalars = self.fields.iter().filter(|(_, value)| is_scalar(value));
            let made = scalars.map(|(name, value)| (name.as_str(), convert::scalar(value)));
            lua.create_table_from(convert::Sized(made, self.fields.len()))
        };
        let table = fill()?;
        self.given = Some(fill()?);
        table.set_metatable(Some(metatable.clone()))?;
        self.table = table.to_pointer() as usize;
        Ok(table)
    }

    /// A field that is not in the table (yet).
    pub(super) fn read(&mut self, lua: &Lua, meter: &Meter, table: &Table, key: &Lv) -> mlua::Result<Lv> {
        self.check(table)?;
        let Some(name) = key.as_string().and_then(|name| name.to_str().ok()) else { return Ok(Lv::Nil) };
        let Some(value) = self.fields.get(&*name).filter(|value| is_table(value)) else { return Ok(Lv::Nil) };
        if self.read.contains_key(&*name) || self.written.contains(&*name) {
            return Ok(Lv::Nil);
        }
        let mut origins = Origins::default();
        let made = vm::unmetered(lua, meter, || {
            let made = convert::to_lua_traced(lua, value, &mut origins)?;
            table.raw_set(key, &made)?;
            self.given.iter().try_for_each(|given| given.raw_set(key, &made))?;
            Ok(made)
        })?;
        self.read.insert(name.to_owned(), origins);
        Ok(made)
    }

    /// Makes all fields that are not in the table yet.
    pub(super) fn read_all(&mut self, lua: &Lua, meter: &Meter, table: &Table) -> mlua::Result<()> {
        if table.to_pointer() as usize != self.table {
            return Ok(());
        }
        let tables = self.fields.iter().filter(|(_, value)| is_table(value));
        let names = tables.map(|(name, _)| lua.create_string(name)).collect::<mlua::Result<Vec<_>>>()?;
        names.into_iter().try_for_each(|name| self.read(lua, meter, table, &Lv::String(name)).map(|_| ()))
    }

    /// Sets a field that is not in the table (yet).
    pub(super) fn write(&mut self, table: &Table, key: &Lv, value: &Lv) -> mlua::Result<()> {
        self.check(table)?;
        let name = key.as_string().and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(|| mlua::Error::runtime(format!("the fields of `{}` have names", self.name)))?;
        self.written.insert(name.to_owned());
        table.raw_set(key, value)
    }

    /// What the hook changed, in the order of the fields.
    pub(super) fn changes(&self, lua: &Lua, table: &Table) -> Result<Vec<Change>, Misfit> {
        let none = Origins::default();
        let mut changes = Vec::new();
        let given = self.given.as_ref();
        // A field that was removed before anybody read it is missed in both.
        let is_as_given =
            self.written.is_empty() && given.map_or(Ok(false), |given| watch::same(lua, table, given)).map_err(convert::unreadable)?;
        for (name, before) in &self.fields {
            let origins = self.read.get(name).unwrap_or(&none);
            let changed = origins.changed(lua).map_err(convert::unreadable)?;
            if is_as_given && changed.is_empty() {
                continue;
            }
            let now: Lv = table.raw_get(name.as_str()).map_err(convert::unreadable)?;
            if now.is_nil() {
                let was_there = is_scalar(before) || self.read.contains_key(name) || (!before.is_null() && self.written.contains(name));
                if was_there {
                    changes.push((name.clone(), None));
                }
                continue;
            }
            let now = convert::from_lua_traced(lua, &now, before, origins, &changed)
                .map_err(|misfit| misfit.under(&format!("{}.{name}", self.name)))?;
            if let Some(now) = now {
                changes.push((name.clone(), Some(now)));
            }
        }
        if is_as_given {
            return Ok(changes);
        }
        let mut new = Vec::new();
        for pair in table.pairs::<Lv, Lv>() {
            let (key, value) = pair.map_err(convert::unreadable)?;
            let name = key.as_string().and_then(|name| name.to_str().ok());
            let Some(name) = name else { return Err(Misfit::new("has a field without a name").under(self.name)) };
            if !self.fields.contains_key(&*name) {
                let value = convert::from_lua(lua, &value).map_err(|misfit| misfit.under(&format!("{}.{}", self.name, &*name)))?;
                new.push((name.to_owned(), Some(Now::Whole(value))));
            }
        }
        new.sort_by(|a, b| a.0.cmp(&b.0));
        changes.extend(new);
        Ok(changes)
    }

    /// The fields as they were before the hook.
    pub(super) fn into_fields(self) -> Object {
        self.fields
    }

    /// A table that a script kept from an earlier call has nothing behind it any more.
    fn check(&self, table: &Table) -> mlua::Result<()> {
        if table.to_pointer() as usize == self.table {
            return Ok(());
        }
        Err(mlua::Error::runtime("this table belongs to a hook call that has ended; keep the fields you need, not the table"))
    }
}

fn is_table(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

fn is_scalar(value: &Value) -> bool {
    !is_table(value) && !value.is_null()
}
