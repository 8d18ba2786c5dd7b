//! What is known of the server at the other end: enough to choose commands.

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// A data node on its own, or behind Sentinel.
    #[default]
    Standalone,
    /// A node of a Cluster.
    Cluster,
    /// A Sentinel.
    Sentinel,
}

impl Mode {
    /// The word of HELLO's `mode`, INFO's `redis_mode` and Valkey's `server_mode`.
    pub fn parse(word: &str) -> Self {
        match word {
            "cluster" => Self::Cluster,
            "sentinel" => Self::Sentinel,
            _ => Self::Standalone,
        }
    }
}

/// What the server said of itself, in HELLO or in INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// What it is for.
    pub mode: Mode,
    /// The version of the Redis commands that it has: Valkey says 7.2.4 here, and its own in
    /// [`Self::valkey`].
    pub version: Version,
    /// Valkey's own version.
    pub valkey: Option<Version>,
}

/// A version: major, minor, patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Reads `7.0.15`, `7.2.4-rc1`, `255.255.255`; missing or strange parts count as 0.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().unwrap_or(0)
        });
        let mut next = || parts.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Version::parse("7.0.15") > Version::parse("7.0.9"));
        assert_eq!(Version::parse("8.1-rc2"), Version(8, 1, 0));
        assert_eq!(Version::parse("unstable"), Version(0, 0, 0));
    }
}
