//! The compiled definition and the table of what goes over the wire agree, in both directions.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;

/// One line for each fact, in the form of the table.
fn compiled() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(super::DESCRIPTORS).unwrap();
    let file = &set.file[0];
    assert_eq!(file.package(), "runtime.v1");
    assert_eq!(file.syntax(), "proto3");
    let mut facts = BTreeSet::new();
    for service in &file.service {
        for method in &service.method {
            assert!(!method.client_streaming(), "{}", method.name());
            let stream = if method.server_streaming() { "*" } else { "" };
            facts.insert(format!(
                "rpc {} {} {} {stream}{}",
                service.name(),
                method.name(),
                local(method.input_type()),
                local(method.output_type())
            ));
        }
    }
    facts.extend(file.enum_type.iter().map(|e| enumeration("", e)));
    for message in &file.message_type {
        facts.insert(format!("message {}", message.name()));
        let outer = format!("{}.", message.name());
        facts.extend(message.enum_type.iter().map(|e| enumeration(&outer, e)));
        facts.extend(message.field.iter().map(|f| field(message, f)));
    }
    facts
}

fn local(name: &str) -> &str {
    name.strip_prefix(".runtime.v1.").unwrap()
}

fn enumeration(outer: &str, one: &EnumDescriptorProto) -> String {
    let values = one.value.iter();
    let values = values.map(|v| format!(" {}={}", v.number(), v.name()));
    format!("enum {outer}{}{}", one.name(), values.collect::<String>())
}

fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let is_deprecated = field.options.as_ref().is_some_and(|o| o.deprecated());
    let mut star = if field.label() == Label::Repeated {
        "*"
    } else {
        ""
    };
    let kind = match map_of(message, field) {
        Some(map) => {
            star = "";
            map
        }
        None => type_of(field),
    };
    let cross = if is_deprecated { "+" } else { "" };
    let (owner, number, name) = (message.name(), field.number(), field.name());
    format!("field {owner} {number} {star}{kind} {name}{cross}")
}

/// A map is a repeated entry of a key and a value.
fn map_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
    let name = field.type_name().rsplit('.').next()?;
    let entry = message
        .nested_type
        .iter()
        .find(|nested| nested.name() == name)?;
    assert!(entry.options.as_ref()?.map_entry());
    let (key, value) = (&entry.field[0], &entry.field[1]);
    Some(format!("map<{},{}>", type_of(key), type_of(value)))
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => local(field.type_name()).to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

#[test]
fn the_definition_is_the_table() {
    let table = include_str!("wire.txt").lines();
    let table = table.filter(|line| !line.starts_with('#'));
    let table = table.map(str::to_owned).collect::<BTreeSet<_>>();
    let compiled = compiled();
    let lacking = table.difference(&compiled).collect::<Vec<_>>();
    let foreign = compiled.difference(&table).collect::<Vec<_>>();
    assert!(
        lacking.is_empty() && foreign.is_empty(),
        "not compiled: {lacking:#?}\nnot in the table: {foreign:#?}"
    );
    assert_eq!(
        table.iter().filter(|fact| fact.starts_with("rpc ")).count(),
        41
    );
}

#[test]
fn values_of_variables_are_bytes() {
    let value = super::KeyValue {
        key: "A".to_owned(),
        value: vec![0xff, 0xfe],
    };
    let again = super::KeyValue::decode(&value.encode_to_vec()[..]).unwrap();
    assert_eq!(again.value, [0xff, 0xfe]);
}
