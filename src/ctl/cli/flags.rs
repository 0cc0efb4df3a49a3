//! Flags: their definition, their values, and the grammar of pflag.

use super::Arg;
use crate::ctl::go::quote::quote;
use crate::ctl::go::{duration, number};

/// A flag of a command.
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// One letter, or none.
    pub short: Option<char>,
    /// What values it takes.
    pub kind: Kind,
    /// The value when it is not given, in the form it would be given in.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Values that completion offers.
    pub values: &'static [&'static str],
    /// Not in help.
    pub hidden: bool,
    /// etcd has no such flag: only help for people tells of it.
    pub beyond: bool,
}

/// What values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True when given; a value only after `=`.
    Bool,
    /// Any bytes.
    Text,
    /// Comma separated, and collected over repetitions.
    List,
    /// Signed 64 bit.
    Int,
    /// Unsigned 64 bit.
    Uint,
    /// Go's duration.
    Duration,
}

/// A flag's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Text`].
    Text(Vec<u8>),
    /// Of [`Kind::List`].
    List(Vec<String>),
    /// Of [`Kind::Int`], and the nanoseconds of [`Kind::Duration`].
    Int(i64),
    /// Of [`Kind::Uint`].
    Uint(u64),
}

impl Flag {
    /// A flag to start from.
    pub const NEW: Self = Self {
        name: "",
        short: None,
        kind: Kind::Bool,
        default: "",
        help: "",
        values: &[],
        hidden: false,
        beyond: false,
    };

    /// A flag that is given or not.
    pub const fn bool(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            ..Self::NEW
        }
    }

    /// A flag with a text.
    pub const fn text(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind: Kind::Text,
            ..Self::NEW
        }
    }

    /// A flag with a number.
    pub const fn int(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind: Kind::Int,
            ..Self::NEW
        }
    }

    /// The same with a default.
    pub const fn or(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// The same with a one-letter form.
    pub const fn short(self, letter: char) -> Self {
        Self {
            short: Some(letter),
            ..self
        }
    }

    /// The same, marked as one etcd does not have.
    pub const fn beyond(self) -> Self {
        Self {
            beyond: true,
            ..self
        }
    }

    /// The same with values to offer.
    pub const fn offering(self, values: &'static [&'static str]) -> Self {
        Self { values, ..self }
    }

    fn takes_value(&self) -> bool {
        self.kind != Kind::Bool
    }

    /// Reads a value given for this flag.
    fn read(&self, given: &[u8]) -> Result<Value, String> {
        let text = String::from_utf8_lossy(given);
        match self.kind {
            Kind::Bool => number::parse_bool(&text).map(Value::Bool),
            Kind::Text => Ok(Value::Text(given.to_vec())),
            Kind::List if given.is_empty() => Ok(Value::List(Vec::new())),
            Kind::List => Ok(Value::List(text.split(',').map(str::to_owned).collect())),
            Kind::Int => number::parse_int(&text, 0).map(Value::Int),
            Kind::Uint => number::parse_uint(&text, 0).map(Value::Uint),
            Kind::Duration => duration::parse(&text).map(Value::Int),
        }
    }

    fn default_value(&self) -> Value {
        let empty = match self.kind {
            Kind::Bool => "false",
            Kind::Int | Kind::Uint | Kind::Duration => "0",
            Kind::Text | Kind::List => "",
        };
        let text = if self.default.is_empty() {
            empty
        } else {
            self.default
        };
        self.read(text.as_bytes())
            .unwrap_or(Value::Text(Vec::new()))
    }
}

/// The flags of one call: which there are, and which were given.
#[derive(Clone, Default)]
pub struct Flags {
    known: Vec<&'static Flag>,
    given: Vec<(&'static Flag, Value)>,
}

/// `--help` of every command.
pub static HELP: Flag = Flag::bool("help", "help for this command").short('h');

impl Flags {
    /// No values yet. Earlier flags hide later ones of the same name.
    pub fn new(known: impl IntoIterator<Item = &'static Flag>) -> Self {
        Self {
            known: known.into_iter().collect(),
            given: Vec::new(),
        }
    }

    /// The flag of this name.
    pub fn find(&self, name: &str) -> Option<&'static Flag> {
        self.known.iter().find(|flag| flag.name == name).copied()
    }

    /// The flag of this letter.
    pub fn find_short(&self, letter: char) -> Option<&'static Flag> {
        self.known
            .iter()
            .find(|flag| flag.short == Some(letter))
            .copied()
    }

    /// Whether it was given, on the command line or by the environment.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|(flag, _)| flag.name == name)
    }

    /// Its value, or its default.
    pub fn get(&self, name: &str) -> Value {
        let given = self.given.iter().find(|(flag, _)| flag.name == name);
        match given {
            Some((_, value)) => value.clone(),
            None => match self.find(name) {
                Some(flag) => flag.default_value(),
                None => {
                    debug_assert!(false, "there is no flag --{name}");
                    Value::Text(Vec::new())
                }
            },
        }
    }

    /// A [`Kind::Bool`] flag.
    pub fn bool(&self, name: &str) -> bool {
        self.get(name) == Value::Bool(true)
    }

    /// A [`Kind::Int`] or [`Kind::Duration`] flag.
    pub fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            Value::Int(number) => number,
            _ => 0,
        }
    }

    /// A [`Kind::Uint`] flag.
    pub fn uint(&self, name: &str) -> u64 {
        match self.get(name) {
            Value::Uint(number) => number,
            _ => 0,
        }
    }

    /// A [`Kind::Text`] flag.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        match self.get(name) {
            Value::Text(bytes) => bytes,
            _ => Vec::new(),
        }
    }

    /// A [`Kind::Text`] flag that is text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    /// A [`Kind::List`] flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Value::List(list) => list,
            _ => Vec::new(),
        }
    }

    /// Gives a flag a value, as its place on the command line or the environment does.
    pub fn set(&mut self, flag: &'static Flag, given: &[u8]) -> Result<(), String> {
        let value = flag.read(given).map_err(|why| {
            let name = match flag.short {
                Some(letter) => format!("-{letter}, --{}", flag.name),
                None => format!("--{}", flag.name),
            };
            format!(
                "invalid argument {} for {} flag: {why}",
                quote(given),
                quote(name.as_bytes())
            )
        })?;
        let slot = self
            .given
            .iter_mut()
            .find(|(given, _)| given.name == flag.name);
        match (slot, value) {
            (Some((_, Value::List(list))), Value::List(more)) => list.extend(more),
            (Some((_, slot)), value) => *slot = value,
            (None, value) => self.given.push((flag, value)),
        }
        Ok(())
    }

    /// Takes all flags out of the arguments; the rest is returned.
    pub fn parse(&mut self, args: &[Arg]) -> Result<Vec<Arg>, String> {
        let mut rest = Vec::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_slice() {
                b"--" => {
                    rest.extend(args.cloned());
                    break;
                }
                [b'-', b'-', long @ ..] => self.parse_long(arg, long, &mut args)?,
                [b'-', shorts @ ..] if !shorts.is_empty() => {
                    self.parse_shorts(shorts, &mut args)?;
                }
                _ => rest.push(arg.clone()),
            }
        }
        Ok(rest)
    }

    fn parse_long<'a>(
        &mut self,
        arg: &[u8],
        long: &[u8],
        args: &mut impl Iterator<Item = &'a Arg>,
    ) -> Result<(), String> {
        if long.starts_with(b"-") || long.starts_with(b"=") {
            return Err(format!("bad flag syntax: {}", String::from_utf8_lossy(arg)));
        }
        let (name, value) = split_value(long);
        let name = String::from_utf8_lossy(name);
        let flag = self
            .find(&name)
            .ok_or_else(|| format!("unknown flag: --{name}"))?;
        match value {
            Some(value) => self.set(flag, value),
            None if !flag.takes_value() => self.set(flag, b"true"),
            None => match args.next() {
                Some(value) => self.set(flag, value),
                None => Err(format!("flag needs an argument: --{name}")),
            },
        }
    }

    /// `-w json`, `-wjson`, `-w=json`, and letters that take no value together.
    fn parse_shorts<'a>(
        &mut self,
        shorts: &[u8],
        args: &mut impl Iterator<Item = &'a Arg>,
    ) -> Result<(), String> {
        let mut left = shorts;
        while let [letter, tail @ ..] = left {
            let letter = char::from(*letter);
            let all = String::from_utf8_lossy(left);
            let flag = self
                .find_short(letter)
                .ok_or_else(|| format!("unknown shorthand flag: {letter:?} in -{all}"))?;
            match tail {
                [b'=', value @ ..] if !value.is_empty() => return self.set(flag, value),
                _ if !flag.takes_value() => self.set(flag, b"true")?,
                [] => {
                    let missing = || format!("flag needs an argument: {letter:?} in -{all}");
                    return self.set(flag, args.next().ok_or_else(missing)?);
                }
                value => return self.set(flag, value),
            }
            left = tail;
        }
        Ok(())
    }
}

fn split_value(long: &[u8]) -> (&[u8], Option<&[u8]>) {
    match long.iter().position(|byte| *byte == b'=') {
        Some(at) => (&long[..at], Some(&long[at + 1..])),
        None => (long, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 6] = [
        Flag::bool("prefix", ""),
        Flag::int("limit", ""),
        Flag::text("write-out", "").short('w').or("simple"),
        Flag::bool("interactive", "").short('i'),
        Flag {
            name: "endpoints",
            kind: Kind::List,
            default: "a:1",
            ..Flag::NEW
        },
        Flag {
            name: "timeout",
            kind: Kind::Duration,
            default: "5s",
            ..Flag::NEW
        },
    ];

    fn parse(line: &str) -> Result<(Flags, Vec<String>), String> {
        let args: Vec<Arg> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let mut flags = Flags::new(&FLAGS);
        let rest = flags.parse(&args)?;
        Ok((
            flags,
            rest.into_iter()
                .map(|arg| String::from_utf8(arg).unwrap())
                .collect(),
        ))
    }

    #[test]
    fn flags_stand_anywhere_and_in_every_form() {
        let (flags, rest) =
            parse("a --prefix b --limit 5 -wjson --endpoints=x:1,y:2 --endpoints z:3 -- --c")
                .unwrap();
        assert_eq!(rest, ["a", "b", "--c"]);
        assert!(flags.bool("prefix"));
        assert_eq!(flags.int("limit"), 5);
        assert_eq!(flags.text("write-out"), "json");
        assert_eq!(flags.list("endpoints"), ["x:1", "y:2", "z:3"]);
        assert_eq!(flags.int("timeout"), 5_000_000_000);
        let (flags, rest) = parse("--prefix false -iw=fields").unwrap();
        assert_eq!(
            (flags.bool("prefix"), rest),
            (true, vec!["false".to_owned()])
        );
        assert!(flags.bool("interactive"));
        assert_eq!(flags.text("write-out"), "fields");
        let (flags, _) = parse("--prefix=false --endpoints=").unwrap();
        assert!(!flags.bool("prefix") && flags.is_given("prefix"));
        assert_eq!(flags.list("endpoints"), Vec::<String>::new());
    }

    #[test]
    fn mistakes_read_as_in_pflag() {
        let error = |line| parse(line).err().unwrap();
        assert_eq!(error("--bogus"), "unknown flag: --bogus");
        assert_eq!(error("-z"), "unknown shorthand flag: 'z' in -z");
        assert_eq!(error("-iz"), "unknown shorthand flag: 'z' in -z");
        assert_eq!(error("--limit"), "flag needs an argument: --limit");
        assert_eq!(error("-w"), "flag needs an argument: 'w' in -w");
        assert_eq!(error("---x"), "bad flag syntax: ---x");
        assert_eq!(
            error("--limit x"),
            "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            error("--timeout 5"),
            "invalid argument \"5\" for \"--timeout\" flag: time: missing unit in duration \"5\""
        );
    }

    #[test]
    fn a_lone_dash_is_an_argument() {
        assert_eq!(parse("- --prefix").unwrap().1, ["-"]);
    }
}
