//! The decision on a request for a space, from the space's state: one pure function, shared by all commands.
//!
//! It is called under the start lock ([`super::start`]), so nothing starts or joins between the check and the action.

use super::method::{Method, Mounter};

/// What is at the space's path, in the caller's mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtRoot {
    /// Nothing is mounted.
    Nothing,
    /// The mount that the claim recorded; it answers.
    Ours,
    /// A mount whose server is gone.
    Dead,
    /// Another mount.
    Foreign,
}

/// The mount recorded by the holder of the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The catalog's id.
    pub catalog: String,
    /// The mount method.
    pub method: Method,
    /// The mount is not here, but in another mount namespace visible from here.
    pub elsewhere: bool,
    /// RCC has put another environment into the space since then.
    pub converted: bool,
    /// The requested option, with the live setting, that the mount cannot satisfy.
    pub differs: Option<String>,
}

/// The current state of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// A process holds the claim.
    pub held: bool,
    /// The recorded mount; `None` while it starts, or while files are being laid out.
    pub live: Option<Live>,
    /// What is at the path.
    pub at_root: AtRoot,
    /// RCC has put another environment into the written state of the space.
    pub converted: bool,
    /// The space is plain files, and they were changed.
    pub files: bool,
    /// Commands have leases on a tree that would be replaced, by another catalog or by a fresh tree. Their server is gone.
    pub used: bool,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The holder has started, or has laid the files out.
    Started,
    /// The holder has ended.
    Gone,
    /// The holder, whose mount only its own command can reach, has ended.
    Private,
}

/// The reason for a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Another catalog is live.
    OtherCatalog,
    /// RCC has put another environment into the space.
    Converted,
    /// An option cannot be satisfied.
    Option(String),
    /// The space is plain files, and a mount would hide their changes.
    Files,
    /// Commands use it, and would see another tree.
    Used,
    /// Something else is mounted there.
    Foreign,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Use the mount that is here.
    Join,
    /// Attach the mount here, and use it.
    Attach,
    /// Start a server.
    Start,
    /// Remove the dead mount, and start a server.
    Repair,
    /// Check again later.
    Wait(Until),
    /// Refuse.
    Refuse(Why),
}

/// Decides on a request for the catalog `wanted`.
pub fn decide(snapshot: &Snapshot, wanted: &str) -> Decision {
    match (snapshot.held, &snapshot.live) {
        (false, _) => unheld(snapshot),
        (true, None) => Decision::Wait(Until::Started),
        (true, Some(live)) => held(snapshot.at_root, live, wanted),
    }
}

fn unheld(snapshot: &Snapshot) -> Decision {
    match snapshot.at_root {
        AtRoot::Ours | AtRoot::Foreign => Decision::Refuse(Why::Foreign),
        _ if snapshot.used => Decision::Refuse(Why::Used),
        _ if snapshot.converted => Decision::Refuse(Why::Converted),
        _ if snapshot.files => Decision::Refuse(Why::Files),
        AtRoot::Dead => Decision::Repair,
        AtRoot::Nothing => Decision::Start,
    }
}

fn held(at_root: AtRoot, live: &Live, wanted: &str) -> Decision {
    let reachable = at_root == AtRoot::Ours || live.elsewhere;
    if at_root == AtRoot::Dead || !reachable {
        return Decision::Wait(Until::Gone);
    }
    if live.catalog != wanted {
        return Decision::Refuse(Why::OtherCatalog);
    }
    if live.converted {
        return Decision::Refuse(Why::Converted);
    }
    if let Some(option) = &live.differs {
        return Decision::Refuse(Why::Option(option.clone()));
    }
    match at_root {
        AtRoot::Ours => Decision::Join,
        // It ends with its command.
        _ if live.method == Method::Fuse(Mounter::Namespace) => Decision::Wait(Until::Private),
        AtRoot::Foreign => Decision::Refuse(Why::Foreign),
        AtRoot::Nothing | AtRoot::Dead => Decision::Attach,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AtRoot; 4] = [AtRoot::Nothing, AtRoot::Ours, AtRoot::Dead, AtRoot::Foreign];

    fn live() -> Live {
        let method = Method::Fuse(Mounter::Direct);
        Live { catalog: "a".to_owned(), method, elsewhere: false, converted: false, differs: None }
    }

    fn row(held: bool, live: Option<Live>, converted: bool) -> [Decision; 4] {
        ALL.map(|at_root| {
            decide(&Snapshot { held, live: live.clone(), at_root, converted, files: false, used: false }, "a")
        })
    }

    #[test]
    fn decide_on_a_space_that_nobody_holds() {
        let foreign = Decision::Refuse(Why::Foreign);
        let (start, repair) = (Decision::Start, Decision::Repair);
        assert_eq!(row(false, None, false), [start, foreign.clone(), repair, foreign.clone()]);
        let converted = Decision::Refuse(Why::Converted);
        assert_eq!(row(false, None, true), [converted.clone(), foreign.clone(), converted, foreign]);
        // The record of a holder that has ended is ignored.
        let other = Live { catalog: "b".to_owned(), converted: true, ..live() };
        assert_eq!(row(false, Some(other), false)[0], Decision::Start);
    }

    #[test]
    fn decide_on_a_space_that_stands_as_files_to_which_somebody_wrote() {
        let row = |held, live: Option<Live>, converted| {
            ALL.map(|at_root| {
                let snapshot =
                    Snapshot { held, live: live.clone(), at_root, converted, files: true, used: false };
                decide(&snapshot, "a")
            })
        };
        let (files, foreign) = (Decision::Refuse(Why::Files), Decision::Refuse(Why::Foreign));
        assert_eq!(row(false, None, false), [files.clone(), foreign.clone(), files, foreign]);
        assert_eq!(row(false, None, true)[0], Decision::Refuse(Why::Converted));
        // The mount hides them.
        assert_eq!(row(true, Some(live()), false)[1], Decision::Join);
    }

    #[test]
    fn decide_on_a_space_whose_server_died_below_commands_that_want_another_tree() {
        let row = |held, live: Option<Live>| {
            ALL.map(|at_root| {
                let live = live.clone();
                decide(&Snapshot { held, live, at_root, converted: false, files: false, used: true }, "a")
            })
        };
        let (used, foreign) = (Decision::Refuse(Why::Used), Decision::Refuse(Why::Foreign));
        assert_eq!(row(false, None), [used.clone(), foreign.clone(), used, foreign]);
        assert_eq!(row(true, Some(live()))[1], Decision::Join);
    }

    #[test]
    fn decide_on_a_space_that_is_about_to_be_there() {
        assert_eq!(row(true, None, false), [(); 4].map(|()| Decision::Wait(Until::Started)));
        assert_eq!(row(true, None, true), [(); 4].map(|()| Decision::Wait(Until::Started)));
    }

    #[test]
    fn decide_on_a_space_that_is_live() {
        let gone = Decision::Wait(Until::Gone);
        assert_eq!(
            row(true, Some(live()), false),
            [gone.clone(), Decision::Join, gone.clone(), gone.clone()]
        );
        let elsewhere = Live { elsewhere: true, ..live() };
        let foreign = Decision::Refuse(Why::Foreign);
        assert_eq!(
            row(true, Some(elsewhere.clone()), false),
            [Decision::Attach, Decision::Join, gone.clone(), foreign]
        );
        let private = Live { method: Method::Fuse(Mounter::Namespace), ..elsewhere };
        let wait = Decision::Wait(Until::Private);
        assert_eq!(row(true, Some(private), false), [wait.clone(), Decision::Join, gone, wait]);
    }

    #[test]
    fn decide_on_a_live_space_other_than_requested() {
        let gone = Decision::Wait(Until::Gone);
        let option = Why::Option("--read-only".to_owned());
        let cases = [
            (Live { catalog: "b".to_owned(), ..live() }, Why::OtherCatalog),
            (Live { converted: true, ..live() }, Why::Converted),
            (Live { differs: Some("--read-only".to_owned()), ..live() }, option),
        ];
        for (live, why) in cases {
            let refused = Decision::Refuse(why);
            let here = [gone.clone(), refused.clone(), gone.clone(), gone.clone()];
            assert_eq!(row(true, Some(live.clone()), false), here);
            let elsewhere = Live { elsewhere: true, ..live };
            let there = [refused.clone(), refused.clone(), gone.clone(), refused];
            assert_eq!(row(true, Some(elsewhere), false), there);
        }
    }
}
