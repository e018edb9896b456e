//! The ways to run random programs: stream orders, granules, modes, limits, cards.

/// One of them.
#[derive(Clone, Debug)]
pub struct Setting {
    /// When the simulator runs queued work.
    pub streams: &'static str,
    /// The simulator's granule.
    pub granularity: &'static str,
    /// coldpress's mode.
    pub mode: &'static str,
    /// Everything evictable leaves after every operation.
    pub torture: bool,
    /// Bytes, well below what the programs hold at their peak; none leaves the card's memory.
    pub limit: Option<u64>,
    /// Where pages are coded.
    pub codec: &'static str,
    /// Host memory for them.
    pub host: &'static str,
    /// What is trusted.
    pub safety: &'static str,
    /// Cards in use.
    pub devices: u64,
    /// Live bytes a program may hold.
    pub budget: u64,
    /// Calls that the driver refuses; only such as the programs do not make themselves.
    pub refused: Option<&'static str>,
}

/// Every order in which the simulator can run things.
pub const STREAMS: [&str; 5] = ["async", "eager", "lazy", "random", "clocked"];

const SMALL: u64 = 2 << 20;
const LARGE: u64 = 32 << 20;

impl Setting {
    /// The simplest one.
    pub fn plain() -> Setting {
        Setting {
            streams: "async",
            granularity: "4KiB",
            mode: "rescue",
            torture: false,
            limit: Some(512 << 10),
            codec: "auto",
            host: "25%",
            safety: "standard",
            devices: 1,
            budget: SMALL,
            refused: None,
        }
    }

    /// Every combination on small granules.
    pub fn small() -> Vec<Setting> {
        let mut all = Vec::new();
        for streams in STREAMS {
            for (granularity, limit) in [("4KiB", 512 << 10), ("64KiB", 1 << 20)] {
                for devices in [1, 2] {
                    // Torture evicts without need; there it is the memory that is not short.
                    for (mode, torture, limit) in [
                        ("rescue", false, Some(limit)),
                        ("rescue", true, None),
                        ("active", false, Some(limit)),
                        ("active", true, Some(limit)),
                    ] {
                        let plain = Setting::plain();
                        all.push(Setting {
                            streams,
                            granularity,
                            mode,
                            torture,
                            limit,
                            devices,
                            ..plain
                        });
                    }
                }
            }
        }
        all
    }

    /// The granule of real cards: everything is larger, so there are few.
    pub fn large() -> Vec<Setting> {
        let one = |streams, devices, torture| Setting {
            streams,
            granularity: "2MiB",
            mode: if torture { "rescue" } else { "active" },
            torture,
            limit: Some(24 << 20),
            devices,
            budget: LARGE,
            ..Setting::plain()
        };
        let streams = STREAMS.into_iter().zip([1, 2].into_iter().cycle());
        streams
            .flat_map(|(s, devices)| [one(s, devices, false), one(s, 3 - devices, true)])
            .collect()
    }

    /// Pages go to the device's store, to host memory, and from the one to the other.
    pub fn coded() -> Vec<Setting> {
        let mut all = Vec::new();
        for codec in ["auto", "cpu"] {
            for host in ["25%", "0", "1MiB"] {
                for torture in [false, true] {
                    let n = all.len();
                    all.push(Setting {
                        streams: STREAMS[n % STREAMS.len()],
                        granularity: "64KiB",
                        mode: if n % 2 == 0 { "rescue" } else { "active" },
                        torture,
                        limit: Some(4 << 20),
                        codec,
                        host,
                        devices: 1 + (n / 3 % 2) as u64,
                        budget: 16 << 20,
                        ..Setting::plain()
                    });
                }
            }
        }
        all
    }

    /// What the environment says, without the files.
    pub fn variables(&self, seed: u64) -> Vec<(&'static str, String)> {
        let streams = match self.streams {
            "random" => format!("random:{seed}"),
            other => other.to_owned(),
        };
        let memory = if self.budget > SMALL { "256MiB" } else { "64MiB" };
        let mut variables = vec![
            ("SIMCUDA_STREAMS", streams),
            ("SIMCUDA_GRANULARITY", self.granularity.to_owned()),
            ("SIMCUDA_MEMORY", memory.to_owned()),
            ("SIMCUDA_DEVICES", self.devices.to_string()),
            ("COLDPRESS_CODEC", self.codec.to_owned()),
            ("COLDPRESS_HOST_LIMIT", self.host.to_owned()),
            ("COLDPRESS_MODE", self.mode.to_owned()),
            ("COLDPRESS_SAFETY", self.safety.to_owned()),
        ];
        if self.torture {
            variables.push(("COLDPRESS_TORTURE", "on".to_owned()));
        }
        if let Some(refused) = self.refused {
            variables.push(("SIMCUDA_FAIL", refused.to_owned()));
        }
        if let Some(limit) = self.limit {
            variables.push(("COLDPRESS_LIMIT", limit.to_string()));
        }
        variables
    }

    /// What the program is told.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--devices".to_owned(), self.devices.to_string()];
        arguments.extend(["--budget".to_owned(), self.budget.to_string()]);
        if let Some(limit) = self.limit {
            arguments.extend(["--limit".to_owned(), limit.to_string()]);
        }
        arguments
    }

    /// In one line.
    pub fn name(&self) -> String {
        let limit = self.limit.map_or("no limit".to_owned(), |l| format!("{} KiB", l >> 10));
        let torture = if self.torture { "torture" } else { "" };
        let Setting { streams, granularity, mode, devices, codec, host, .. } = self;
        let coded = format!("{codec} {host}");
        format!(
            "{streams:<8}{granularity:<6} {devices} {mode:<7}{limit:<10}{coded:<10}{torture:<8}"
        )
    }
}
