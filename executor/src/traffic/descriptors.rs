//! Open files: connections take some, and a process has only so many.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

use super::config::FrontConfig;

/// A socket on each side of a client's connection, and the two ends of a pipe in each direction.
const OF_A_CLIENT: u64 = 6;
/// For all else that the process does.
const REST: u64 = 512;

/// The process may have too few files open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "its connections can take {wanted} open files, and this process may have {most}: lower `connections`, or raise the \
     limit (`ulimit -Hn`, `LimitNOFILE=`)"
)]
pub struct TooFew {
    wanted: u64,
    most: u64,
}

/// Lets the process have as many files open as all connections of a front can take.
///
/// # Errors
/// When it may not.
pub fn make_room(config: &FrontConfig) -> Result<(), TooFew> {
    let connections: usize = config.services.iter().map(|service| service.connections).sum();
    let wanted = (connections as u64).saturating_mul(OF_A_CLIENT).saturating_add(REST);
    // What can't be asked is not known to be in the way.
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if now >= wanted {
        return Ok(());
    }
    if most < wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, most).is_err() {
        return Err(TooFew { wanted, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::config::{FrontedService, NodesFile, Protocol};
    use super::*;

    fn front(connections: usize) -> FrontConfig {
        let service = FrontedService {
            name: "service".into(),
            listen: ([127, 0, 0, 1], 0).into(),
            port: 1,
            protocol: Protocol::Tcp,
            connections,
            held: 1,
            hold: Duration::from_secs(1),
        };
        let drain = Duration::from_millis(60);
        let (nodes, services) = (NodesFile::Agents("".into()), vec![service.clone(), service]);
        FrontConfig {
            nodes,
            identity: None,
            metrics: None,
            drain,
            leave: Duration::ZERO,
            services,
            stand_in: None,
        }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_needed_and_no_further_than_may_be() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let connections = usize::try_from(most / OF_A_CLIENT / 2).unwrap();
        let refused = make_room(&front(connections)).unwrap_err();
        assert!(refused.wanted > most && refused.most == most, "{refused}");
        setrlimit(Resource::RLIMIT_NOFILE, 600, most).unwrap();
        make_room(&front(50)).unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (2 * 50 * OF_A_CLIENT + REST, most));
        make_room(&front(1)).unwrap();
        assert!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 > REST + 500, "it is never lowered");
    }
}
