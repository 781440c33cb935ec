//! The record of a dedicated uplink as it was in the host: its name, link-layer address, addresses and routes.
//!
//! The record is pinned in bpffs, the one place that outlives a daemon both on a host and in a container. It is
//! written before the device moves and removed after the device is back, so that a daemon that is killed in
//! between loses nothing.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::super::bpf;
use super::super::netlink::Configuration;

/// A device as it was before it moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Record {
    /// Name in the host.
    pub(in crate::datapath) name: String,
    /// Link-layer address: another device may have the name later.
    pub(in crate::datapath) mac: Vec<u8>,
    /// Addresses and routes.
    pub(in crate::datapath) configuration: Configuration,
}

/// Where the record is kept.
#[derive(Clone, Debug)]
pub(in crate::datapath) struct Store {
    pin: PathBuf,
}

impl Store {
    /// The store in a daemon's directory in bpffs.
    pub(in crate::datapath) fn below(bpffs: &Path) -> Self {
        Self {
            pin: bpffs.join("dedicated-uplink"),
        }
    }

    /// The record; `None` if no record exists, or this version cannot read it.
    pub(in crate::datapath) fn read(&self) -> Option<Record> {
        let map = MapData::from_pin(&self.pin).ok()?;
        let array: Array<MapData, Value> = Array::try_from(Map::Array(map)).ok()?;
        decode(&array.get(&0, 0).ok()?)
    }

    /// Writes the record, in place of an earlier one.
    ///
    /// # Errors
    ///
    /// An error if the kernel refuses, or if the record is larger than [`BYTES`].
    pub(in crate::datapath) fn write(&self, record: &Record) -> io::Result<()> {
        let value = encode(record).ok_or_else(|| {
            io::Error::other(format!("addresses and routes take more than {BYTES} bytes"))
        })?;
        if !self.pin.exists() {
            let path = CString::new(self.pin.as_os_str().as_bytes())?;
            bpf::pin(bpf::create_value(BYTES)?.as_fd(), &path)?;
        }
        let map = MapData::from_pin(&self.pin).map_err(other)?;
        let mut array: Array<MapData, Value> = Array::try_from(Map::Array(map)).map_err(other)?;
        array.set(0, value, 0).map_err(other)
    }

    /// Removes the record.
    pub(in crate::datapath) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.pin) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

type Value = [u8; BYTES as usize];

/// The record as it is written: JSON, and zeros behind it.
#[derive(Serialize, Deserialize)]
struct Written {
    name: String,
    mac: String,
    addresses: Vec<String>,
    routes: Vec<String>,
}

fn encode(record: &Record) -> Option<Value> {
    let (addresses, routes) = record.configuration.to_bytes();
    let text = |messages: Vec<Vec<u8>>| messages.iter().map(|bytes| BASE64.encode(bytes)).collect();
    let written = Written {
        name: record.name.clone(),
        mac: BASE64.encode(&record.mac),
        addresses: text(addresses),
        routes: text(routes),
    };
    let json = serde_json::to_vec(&written).ok()?;
    let mut value = [0; BYTES as usize];
    value.get_mut(..json.len())?.copy_from_slice(&json);
    Some(value)
}

fn decode(value: &Value) -> Option<Record> {
    let end = value.iter().position(|byte| *byte == 0)?;
    let written: Written = serde_json::from_slice(&value[..end]).ok()?;
    let bytes = |texts: &[String]| -> Option<Vec<Vec<u8>>> {
        texts.iter().map(|text| BASE64.decode(text).ok()).collect()
    };
    let (addresses, routes) = (bytes(&written.addresses)?, bytes(&written.routes)?);
    Some(Record {
        name: written.name,
        mac: BASE64.decode(written.mac).ok()?,
        configuration: Configuration::from_bytes(&addresses, &routes)?,
    })
}

fn other(error: MapError) -> io::Error {
    io::Error::other(error)
}

/// Room for some hundred addresses and routes.
const BYTES: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record {
            name: "eth1".to_owned(),
            mac: vec![2, 0, 0, 0, 0, 7],
            configuration: Configuration::default(),
        };
        let mut value = encode(&record).unwrap();
        assert_eq!(decode(&value), Some(record));
        value[0] = b'[';
        assert_eq!(decode(&value), None);
        assert_eq!(decode(&[0; BYTES as usize]), None);
    }
}
