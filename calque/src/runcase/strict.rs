//! JSON in which no field is there twice: of two values for one register, whichever is taken, the other is lost.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;

/// The value in `text`, and the path of the first field in it that is there twice.
///
/// # Errors
/// What is not JSON.
pub(super) fn parse(text: &str) -> serde_json::Result<(Value, Option<String>)> {
    let twice = RefCell::new(None);
    let mut input = serde_json::Deserializer::from_str(text);
    let value = Node { above: None, twice: &twice }.deserialize(&mut input)?;
    input.end()?;
    Ok((value, twice.into_inner()))
}

/// A place in the text: the object around it with the key that leads here, and that object's own place.
#[derive(Clone, Copy)]
struct Node<'a> {
    above: Option<(&'a Node<'a>, Step<'a>)>,
    twice: &'a RefCell<Option<String>>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Node<'_> {
    fn below<'a>(&'a self, step: Step<'a>) -> Node<'a> {
        Node { above: Some((self, step)), twice: self.twice }
    }
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.above {
            None => Ok(()),
            Some((Node { above: None, .. }, Step::Key(key))) => f.write_str(key),
            Some((above, Step::Key(key))) => write!(f, "{above}.{key}"),
            Some((above, Step::Index(n))) => write!(f, "{above}[{n}]"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = input.next_element_seed(self.below(Step::Index(list.len())))? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = input.next_key::<String>()? {
            let node = self.below(Step::Key(&key));
            if map.contains_key(&key) {
                self.twice.borrow_mut().get_or_insert_with(|| node.to_string());
            }
            let value = input.next_value_seed(node)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
