//! The eBPF object: loads its programs and pins its maps.

use std::fs::File;
use std::io;
use std::path::Path;

use aya::maps::sock::SockMapFd;
use aya::maps::{Map, MapData};
use aya::programs::{
    CgroupAttachMode, ProgramError, SchedClassifier, SkLookup, SkMsg, SockOps, Xdp,
};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ingress_common::verdict::Program;
use thiserror::Error;

/// Why the object can't be used.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// Built with `AYA_BUILD_SKIP=1`.
    #[error("this binary was built without its eBPF programs")]
    NotBuilt,
    /// The kernel refused a map or the object is no BPF ELF.
    #[error("failed to load the eBPF object")]
    Load(#[source] EbpfError),
    /// The kernel refused a program.
    #[error("failed to load program `{name}`")]
    Program {
        /// Entry point.
        name: &'static str,
        /// What the kernel said, with the verifier's log.
        #[source]
        source: ProgramError,
    },
    /// The object has no program or map of this name: it is of another version.
    #[error("the eBPF object has no `{0}`")]
    Missing(&'static str),
}

/// The loaded programs, not yet attached, and their maps.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Loads all programs; maps are pinned in `pins`, and those already there are adopted.
    pub fn load(pins: &Path) -> Result<Self, ObjectError> {
        if OBJECT.is_empty() {
            return Err(ObjectError::NotBuilt);
        }
        let ebpf = EbpfLoader::new()
            .default_map_pin_directory(pins)
            .load(OBJECT)
            .map_err(ObjectError::Load)?;
        let mut object = Self { ebpf };
        let guard = object.guard()?;
        verified(|| guard.load()).map_err(failed(Program::Guard))?;
        let steer = object.steer()?;
        verified(|| steer.load()).map_err(failed(Program::Steer))?;
        let return_path = object.return_path()?;
        verified(|| return_path.load()).map_err(failed(Program::ReturnPath))?;
        let dispatch = object.dispatch()?;
        verified(|| dispatch.load()).map_err(failed(Program::Dispatch))?;
        Ok(object)
    }

    /// The XDP program.
    pub fn guard(&mut self) -> Result<&mut Xdp, ObjectError> {
        self.program(Program::Guard)
    }

    /// The TC program for uplinks and devices with local endpoints.
    pub fn steer(&mut self) -> Result<&mut SchedClassifier, ObjectError> {
        self.program(Program::Steer)
    }

    /// The TC program for the host side of the gate.
    pub fn return_path(&mut self) -> Result<&mut SchedClassifier, ObjectError> {
        self.program(Program::ReturnPath)
    }

    /// The sk_lookup program for the ingress netns.
    pub fn dispatch(&mut self) -> Result<&mut SkLookup, ObjectError> {
        self.program(Program::Dispatch)
    }

    /// Loads the programs of the shortcut, without which the others work.
    pub(super) fn load_shortcut(&mut self) -> Result<(), ObjectError> {
        let failed = |name| move |source| ObjectError::Program { name, source };
        let enrol: &mut SockOps = self.named(ENROL)?;
        verified(|| enrol.load()).map_err(failed(ENROL))?;
        for name in SENDS {
            let send: &mut SkMsg = self.named(name)?;
            verified(|| send.load()).map_err(failed(name))?;
        }
        Ok(())
    }

    /// Attaches a program to what is sent over the sockets of a map.
    pub(super) fn attach_to_sockets(
        &mut self,
        name: &'static str,
        sockets: &SockMapFd,
    ) -> Result<Result<(), ProgramError>, ObjectError> {
        let program: &mut SkMsg = self.named(name)?;
        Ok(program.attach(sockets).map(drop))
    }

    /// Attaches a program to the connections of all processes of a cgroup.
    pub(super) fn attach_to_cgroup(
        &mut self,
        name: &'static str,
        cgroup: &File,
    ) -> Result<Result<(), ProgramError>, ObjectError> {
        let program: &mut SockOps = self.named(name)?;
        // By a link, which joins the programs of others; it is no mode that replaces them.
        Ok(program.attach(cgroup, CgroupAttachMode::Single).map(drop))
    }

    /// Detaches what is attached of the shortcut.
    pub(super) fn detach_shortcut(&mut self) {
        // One that is not loaded is what is wanted.
        if let Ok(enrol) = self.named::<SockOps>(ENROL) {
            let _ = enrol.unload();
        }
        for name in SENDS {
            if let Ok(send) = self.named::<SkMsg>(name) {
                let _ = send.unload();
            }
        }
    }

    /// Takes a map out of the object.
    pub fn take_map<M>(&mut self, name: &'static str) -> Result<M, ObjectError>
    where
        M: TryFrom<Map>,
    {
        let map = self.ebpf.take_map(name).ok_or(ObjectError::Missing(name))?;
        M::try_from(map).map_err(|_| ObjectError::Missing(name))
    }

    /// Takes the raw data of an array map, to map it into memory.
    pub fn take_array(&mut self, name: &'static str) -> Result<MapData, ObjectError> {
        match self.ebpf.take_map(name) {
            Some(Map::Array(data)) => Ok(data),
            _ => Err(ObjectError::Missing(name)),
        }
    }

    /// The whole object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    fn program<'a, P>(&'a mut self, program: Program) -> Result<&'a mut P, ObjectError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        self.named(program.name())
    }

    fn named<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, ObjectError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        let Some(found) = self.ebpf.program_mut(name) else {
            return Err(ObjectError::Missing(name));
        };
        found.try_into().map_err(|_| ObjectError::Missing(name))
    }
}

/// Loads a program, again where the kernel asks for that: the verifier gives up with EAGAIN when a
/// signal arrives meanwhile (`kernel/bpf/verifier.c`), and libbpf tries five times as well.
fn verified(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..LOADS_MAX {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
    load()
}

/// How often one program is loaded.
const LOADS_MAX: usize = 5;

fn failed(program: Program) -> impl FnOnce(ProgramError) -> ObjectError {
    move |source| ObjectError::Program {
        name: program.name(),
        source,
    }
}

/// Entry points of the shortcut.
const ENROL: &str = "enrol";
const SENDS: [&str; 2] = ["send_to_pod", "send_to_proxy"];

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-ebpf"));
