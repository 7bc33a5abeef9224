//! The start lock, the claim and leases together: a command with a lease finds the tree that it requested, in every order in which commands
//! start and end and servers die.
//!
//! The decisions and the claim are those of the program; the flock of the start lock is a mutex of the model.

use std::sync::Arc;

use holofs::session::decide::{AtRoot, Decision, Live as Recorded, Snapshot, decide};
use holofs::session::method::{Method, Mounter};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{self, JoinHandle};

use crate::soak;
use crate::space::live::{Live, held_by, may_be_held};
use crate::sys::fs::place::Place;

/// A command.
#[derive(Clone, Copy)]
enum Act {
    /// Runs in the tree of this catalog.
    Run(&'static str),
    /// Keeps the tree of this catalog.
    Mount(&'static str),
    /// Removes the tree, unless a command has a lease.
    Unmount,
    /// Ends the server, at any moment.
    Kill,
}

/// What is mounted, and how to request the end of its server.
#[derive(Default)]
struct Tree {
    catalog: Option<&'static str>,
    kept: bool,
    stop: bool,
}

#[derive(Default)]
struct World {
    path: Place,
    start: Mutex<()>,
    leases: Mutex<Vec<&'static str>>,
    tree: Mutex<Tree>,
    changed: Condvar,
    server: Mutex<Option<JoinHandle<()>>>,
    killed: std::sync::atomic::AtomicBool,
}

impl World {
    fn look(&self, wanted: &str) -> Snapshot {
        let tree = self.tree.lock().unwrap();
        let live = tree.catalog.map(|catalog| Recorded {
            catalog: catalog.to_owned(),
            method: Method::Fuse(Mounter::Direct),
            elsewhere: false,
            converted: false,
            differs: None,
        });
        let at_root = if tree.catalog.is_some() { AtRoot::Ours } else { AtRoot::Nothing };
        drop(tree);
        let used = self.leases.lock().unwrap().iter().any(|catalog| *catalog != wanted);
        let held = may_be_held(&self.path);
        Snapshot { held, live, at_root, converted: false, files: false, used: !held && used }
    }

    /// The process that serves: it takes the claim before it mounts the tree, and removes the tree before it releases the claim.
    fn serve(self: &Arc<Self>, catalog: &'static str) -> bool {
        let world = Arc::clone(self);
        let (sender, hear) = shuttle::sync::mpsc::channel();
        let server = thread::spawn(move || {
            let Ok(live) = Live::take(&world.path, &world.path) else { return sender.send(false).unwrap() };
            *world.tree.lock().unwrap() = Tree { catalog: Some(catalog), ..Tree::default() };
            sender.send(true).unwrap();
            let mut tree = world.tree.lock().unwrap();
            while !tree.stop {
                tree = world.changed.wait(tree).unwrap();
            }
            tree.catalog = None;
            drop(tree);
            thread::yield_now();
            drop(live);
        });
        *self.server.lock().unwrap() = Some(server);
        hear.recv().unwrap()
    }

    /// Ends the server, and waits for that.
    fn end(&self) {
        self.tree.lock().unwrap().stop = true;
        self.changed.notify_all();
        let server = self.server.lock().unwrap().take();
        server.into_iter().for_each(|server| server.join().unwrap());
    }

    /// Obtains the tree, with a lease or kept; false if it was refused.
    fn obtain(self: &Arc<Self>, catalog: &'static str, keeps: bool) -> bool {
        loop {
            let start = self.start.lock().unwrap();
            let is_there = match decide(&self.look(catalog), catalog) {
                Decision::Join => true,
                Decision::Start => self.serve(catalog),
                Decision::Refuse(_) => return false,
                Decision::Wait(_) => false,
                other => panic!("{other:?} in a model without namespaces"),
            };
            if is_there {
                match keeps {
                    true => self.tree.lock().unwrap().kept = true,
                    false => self.leases.lock().unwrap().push(catalog),
                }
                return true;
            }
            drop(start);
            thread::yield_now();
        }
    }

    fn run(self: &Arc<Self>, catalog: &'static str) {
        if !self.obtain(catalog, false) {
            return;
        }
        for _ in 0..2 {
            let seen = self.tree.lock().unwrap().catalog;
            let is_calm = !self.killed.load(std::sync::atomic::Ordering::SeqCst);
            assert!(seen == Some(catalog) || (!is_calm && seen.is_none()), "{catalog} finds {seen:?}");
            thread::yield_now();
        }
        let _start = self.start.lock().unwrap();
        let mut leases = self.leases.lock().unwrap();
        let own = leases.iter().position(|lease| *lease == catalog).unwrap();
        leases.remove(own);
        let is_last = leases.is_empty() && !self.tree.lock().unwrap().kept;
        drop(leases);
        if is_last {
            self.end();
        }
    }

    fn unmount(&self) {
        let _start = self.start.lock().unwrap();
        if self.leases.lock().unwrap().is_empty() {
            self.end();
        }
    }

    fn kill(&self) {
        self.killed.store(true, std::sync::atomic::Ordering::SeqCst);
        self.tree.lock().unwrap().stop = true;
        self.changed.notify_all();
    }
}

/// Commands that use one space at once; when all have ended and it is unmounted, no process holds it.
fn meet(acts: &'static [Act]) {
    let world = Arc::new(World::default());
    let each = acts.iter().map(|&act| {
        let world = Arc::clone(&world);
        thread::spawn(move || match act {
            Act::Run(catalog) => world.run(catalog),
            Act::Mount(catalog) => drop(world.obtain(catalog, true)),
            Act::Unmount => world.unmount(),
            Act::Kill => world.kill(),
        })
    });
    let all: Vec<_> = each.collect();
    all.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(world.leases.lock().unwrap().is_empty());
    world.unmount();
    assert!(!may_be_held(&world.path) && held_by(&world.path).is_none(), "it is held, and nobody is there");
}

#[test]
fn lease_keeps_its_tree_in_every_order_of_commands() {
    use Act::{Kill, Mount, Run, Unmount};
    let times = soak::amount(1_000, 50_000);
    for acts in [
        &[Run("a"), Run("a"), Unmount][..],
        &[Run("a"), Run("b"), Run("a")],
        &[Mount("a"), Run("a"), Unmount, Run("b")],
        &[Run("a"), Kill, Run("b"), Run("a")],
        &[Mount("a"), Kill, Mount("b"), Run("a"), Unmount],
    ] {
        shuttle::check_random(move || meet(acts), times);
    }
}
