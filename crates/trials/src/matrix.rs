//! Stories × settings × disturbances: which cells there are, each with a name that brings it about again, and how they are
//! played at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_sandbox::switches::Switches;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::disturbance::{Call, Disturbance, Wrong};
use crate::play::{Played, counter, play};
use crate::script::{How, Script, WATCHED_LONGER, read_yaml, switched};
use crate::story::said;
use crate::story::settings::settings;
use crate::verdict::{Verdict, judge, may_be_slow};

/// The stories that come with this crate.
pub fn shipped_stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stories")
}

/// The switches of a world that are not as usual, by name, and those that somebody named who asked for that world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unusual(pub BTreeMap<String, Value>);

impl Unusual {
    /// What is not as usual in these switches.
    pub fn of(switches: &Switches) -> Unusual {
        let (usual, given) = (json!(Switches::default()), json!(switches));
        let given = given.as_object().cloned().unwrap_or_default().into_iter();
        Unusual(given.filter(|(name, setting)| usual[name] != *setting).collect())
    }

    /// The world's switches with this setting.
    pub fn switches(&self) -> Result<Switches, String> {
        switched(&Switches::default(), &self.0)
    }

    /// Reads `usual`, or `name=setting,name=setting`.
    pub fn read(text: &str) -> Result<Unusual, String> {
        if text == "usual" {
            return Ok(Unusual::default());
        }
        let mut all = BTreeMap::new();
        for part in text.split(',') {
            let (name, setting) = part.split_once('=').ok_or_else(|| format!("'{part}' is no switch=setting"))?;
            let value = serde_json::from_str(setting).unwrap_or_else(|_| json!(setting));
            all.insert(name.trim().to_owned(), value);
        }
        let setting = Unusual(all);
        setting.switches()?;
        Ok(setting)
    }

    /// The world in which whatever is delivered comes twice, and every id in another letter case.
    pub fn twice() -> Unusual {
        let all = [("events", "doubled"), ("messages", "twiceAtOnce"), ("letterCase", "upper")];
        Unusual(all.map(|(name, setting)| (name.to_owned(), json!(setting))).into())
    }

    /// The usual world, that in which everything comes twice, and every setting of every switch, one at a time.
    pub fn every() -> Vec<Unusual> {
        let mut all = vec![Unusual::default(), Unusual::twice()];
        for (_, _, switches) in settings() {
            let setting = Unusual::of(&switches);
            if !all.contains(&setting) {
                all.push(setting);
            }
        }
        all
    }

    /// The worlds of a file: an object of switches, or a list of them; a switch whose setting is a list stands for each of it, so
    /// that an object is as many worlds as its lists have combinations.
    pub fn read_file(path: &Path) -> Result<Vec<Unusual>, String> {
        let cannot = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|why| cannot(&why))?;
        Unusual::read_all(&text).map_err(|why| cannot(&why))
    }

    /// The same of the text of such a file.
    pub fn read_all(text: &str) -> Result<Vec<Unusual>, String> {
        let given: Value = read_yaml(text)?;
        let objects = match given {
            Value::Array(objects) => objects,
            object => vec![object],
        };
        let mut all = Vec::new();
        let mut names = BTreeSet::new();
        for (number, object) in objects.into_iter().enumerate() {
            let Value::Object(object) = object else {
                return Err(format!("world {}: it is no object of switches", number + 1));
            };
            let count = object.values().fold(1_usize, |count, value| count.saturating_mul(value.as_array().map_or(1, Vec::len)));
            if all.len().saturating_add(count) > MOST_WORLDS {
                return Err(format!("world {}: its lists have {count} combinations, and a file may have {MOST_WORLDS} worlds", number + 1));
            }
            let settings = combinations(&object);
            if settings.is_empty() {
                return Err(format!("world {}: a switch with no setting leaves no world", number + 1));
            }
            for setting in settings {
                // What is named as it is usually is named nevertheless: a story that sets it otherwise is not of that world.
                let switches = json!(setting.switches().map_err(|why| format!("world {}: {why}", number + 1))?);
                let setting = Unusual(setting.0.into_keys().map(|name| (name.clone(), switches[&name].clone())).collect());
                if names.insert(setting.to_string()) {
                    all.push(setting);
                }
            }
        }
        if all.is_empty() { Err("there is no world in it: `- {}` is the usual one".to_owned()) } else { Ok(all) }
    }
}

/// So many worlds a file may have: with twenty stories that is a day's work undisturbed.
const MOST_WORLDS: usize = 10_000;

fn combinations(object: &Map<String, Value>) -> Vec<Unusual> {
    object.iter().fold(vec![Unusual::default()], |worlds, (name, value)| {
        let settings = if let Value::Array(any) = value { any.clone() } else { vec![value.clone()] };
        let with = |world: &Unusual, setting: &Value| {
            let mut world = world.clone();
            world.0.insert(name.clone(), setting.clone());
            world
        };
        worlds.iter().flat_map(|world| settings.iter().map(|setting| with(world, setting)).collect::<Vec<_>>()).collect()
    })
}

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "usual");
        }
        for (place, (name, setting)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let setting = setting.as_str().map_or_else(|| setting.to_string(), str::to_owned);
            write!(f, "{comma}{name}={setting}")?;
        }
        Ok(())
    }
}

/// A story in a world, disturbed or not. Its name says all that is needed to play it again.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The story's name.
    pub story: String,
    /// It.
    pub script: Arc<Script>,
    /// The world.
    pub setting: Unusual,
    /// What goes wrong.
    pub disturbance: Disturbance,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.story, self.setting, self.disturbance)
    }
}

impl Cell {
    /// A story in a world in which nothing goes wrong.
    pub fn undisturbed((name, script): &(String, Script), setting: &Unusual) -> Cell {
        Cell { story: name.clone(), script: Arc::new(script.clone()), setting: setting.clone(), disturbance: Disturbance::Nothing }
    }

    /// The cell of this name among these stories.
    pub fn read(name: &str, stories: &[(String, Script)]) -> Result<Cell, String> {
        let mut parts = name.splitn(3, '/');
        let (Some(story), Some(setting), Some(disturbance)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("'{name}' is no cell: it is STORY/SETTING/DISTURBANCE, such as granted/usual/undisturbed"));
        };
        let script = stories.iter().find(|(known, _)| known == story).ok_or_else(|| {
            let known: Vec<&str> = stories.iter().map(|(name, _)| name.as_str()).collect();
            format!("there is no story '{story}': {}", known.join(", "))
        })?;
        let cell = Cell {
            story: story.to_owned(),
            script: Arc::new(script.1.clone()),
            setting: Unusual::read(setting)?,
            disturbance: disturbance.parse()?,
        };
        if cell.is_of_its_world() {
            Ok(cell)
        } else {
            Err(format!("the story '{story}' sets a switch itself that '{setting}' sets otherwise"))
        }
    }

    /// Whether it is played in the world that it names: a story that sets a switch itself would be played in another one, under
    /// this one's name.
    pub fn is_of_its_world(&self) -> bool {
        let own = &self.script.world.switches;
        self.setting.0.iter().all(|(name, setting)| own.get(name).is_none_or(|own| own == setting))
    }

    /// Plays it and judges how it ended.
    pub async fn outcome(&self) -> Outcome {
        match self.played().await {
            Ok((played, verdict)) => Outcome { is_met: played.is_met, ends: verdict.ends, told: verdict.told, wrong: verdict.wrong },
            Err(why) => Outcome::failed(why),
        }
    }

    /// Plays it and gives all that there is to see.
    pub async fn played(&self) -> Result<(Played, Verdict), String> {
        let switches = self.setting.switches()?;
        let its = switched(&switches, &self.script.world.switches)?;
        let longer = self.disturbance.longer().or(may_be_slow(&self.script, &its).then_some(WATCHED_LONGER));
        let played = play(&self.script, &switches, self.disturbance.fault(), longer).await?;
        let switches = its;
        let verdict = judge(&self.script, &switches, &self.disturbance, &played);
        Ok((played, verdict))
    }

    /// The calls that the handler makes in it while nothing goes wrong.
    pub async fn calls(&self) -> Result<Vec<Call>, String> {
        let played = play(&self.script, &self.setting.switches()?, Some(counter()), None).await?;
        Ok(played.story.world(|state| Call::all(&state.met)))
    }
}

/// How a cell ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How each port ended of which that can be said.
    pub ends: Vec<How>,
    /// The same with all that there is to see of it, for people.
    pub told: Vec<String>,
    /// What is not as it must be.
    pub wrong: Vec<String>,
    /// Whether the story came to the call at which it was to be disturbed.
    pub is_met: bool,
}

impl Outcome {
    /// That of a cell that could not be played, for this reason.
    pub fn failed(why: String) -> Self {
        Outcome { ends: Vec::new(), told: Vec::new(), wrong: vec![why], is_met: true }
    }
}

/// Every cell of a story in a world that is disturbed at each `every`-th of its calls.
pub fn disturbed(undisturbed: &Cell, calls: &[Call], wrongs: &[Wrong], every: NonZeroUsize) -> Vec<Cell> {
    let at = |wrong: Wrong| calls.iter().step_by(every.get()).map(move |call| Disturbance::At(wrong, call.clone()));
    let disturbances = wrongs.iter().flat_map(|wrong| at(*wrong));
    disturbances.map(|disturbance| Cell { disturbance, ..undisturbed.clone() }).collect()
}

/// Runs so many of these at once and gives what each came to, in their order; `ended` hears of each when it ends, by its place.
/// One that panics, or that does not end, is given words for that.
pub async fn at_once<T, F>(jobs: NonZeroUsize, all: Vec<F>, mut ended: impl FnMut(usize, &Result<T, String>)) -> Vec<Result<T, String>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(jobs.get()));
    let mut running = JoinSet::new();
    let mut numbers = BTreeMap::new();
    for (number, one) in all.into_iter().enumerate() {
        let places = Arc::clone(&places);
        let task = running.spawn(async move {
            let _place = places.acquire().await;
            tokio::time::timeout(ENDS_WITHIN, one).await.map_err(|_| format!("it did not end within {ENDS_WITHIN:?}"))
        });
        numbers.insert(task.id(), number);
    }
    let mut outcomes = BTreeMap::new();
    while let Some(joined) = running.join_next_with_id().await {
        let (id, outcome) = match joined {
            Ok((id, outcome)) => (id, outcome),
            Err(why) => (why.id(), Err(said(why))),
        };
        let number = numbers.get(&id).copied().unwrap_or_default();
        ended(number, &outcome);
        outcomes.insert(number, outcome);
    }
    outcomes.into_values().collect()
}

/// A cell takes a second or two; a machine that is busy takes a multiple.
const ENDS_WITHIN: Duration = Duration::from_secs(480);

/// Plays cells at once and gives how each ended, in their order; `ended` hears of each.
pub async fn run(jobs: NonZeroUsize, cells: &[Cell], ended: impl Fn(&Cell, &Outcome)) -> Vec<Outcome> {
    let of = |outcome: &Result<Outcome, String>| match outcome {
        Ok(outcome) => outcome.clone(),
        Err(why) => Outcome::failed(why.clone()),
    };
    let played = cells.iter().cloned().map(|cell| async move { cell.outcome().await }).collect();
    let outcomes = at_once(jobs, played, |place, outcome| ended(&cells[place], &of(outcome))).await;
    outcomes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_what_is_not_as_usual_and_its_name_leads_back_to_it() {
        for setting in Unusual::every() {
            assert_eq!(Unusual::read(&setting.to_string()).unwrap(), setting);
        }
        let several = Unusual::read("events=never,pageSize=1").unwrap();
        assert_eq!(several.to_string(), "events=never,pageSize=1");
        assert_eq!(Unusual::read(&Unusual::twice().to_string()).unwrap(), Unusual::twice());
        assert_eq!(Unusual::of(&several.switches().unwrap()), several);
    }

    #[test]
    fn a_setting_that_does_not_exist_is_named() {
        assert!(Unusual::read("evnts=never").unwrap_err().contains("evnts"));
        assert!(Unusual::read("events=sometimes").unwrap_err().contains("sometimes"));
    }

    #[test]
    fn a_file_of_lists_is_every_combination() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("switches.yaml");
        std::fs::write(&file, "- {events: [never, late], pageSize: [0, 1]}\n- {letterCase: upper}\n- {events: never}\n").unwrap();
        let worlds: Vec<String> = Unusual::read_file(&file).unwrap().iter().map(ToString::to_string).collect();
        let first = ["events=never,pageSize=0", "events=never,pageSize=1", "events=late,pageSize=0", "events=late,pageSize=1"];
        assert_eq!(worlds, [first.as_slice(), &["letterCase=upper", "events=never"]].concat());
        std::fs::write(&file, "- {events: never}\n- {evnts: late}\n").unwrap();
        let why = Unusual::read_file(&file).unwrap_err();
        assert!(why.contains("switches.yaml: world 2: there is no switch 'evnts'"), "{why}");
        for (text, says) in [("[]", "there is no world in it"), ("- {}\n- {events: []}", "world 2: a switch with no setting")] {
            std::fs::write(&file, text).unwrap();
            let why = Unusual::read_file(&file).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        let numbers: Vec<u32> = (0..101).collect();
        std::fs::write(&file, json!([{"initiatingSeconds": numbers, "operationSeconds": numbers}]).to_string()).unwrap();
        let why = Unusual::read_file(&file).unwrap_err();
        assert!(why.ends_with("world 1: its lists have 10201 combinations, and a file may have 10000 worlds"), "{why}");
        std::fs::write(&file, "[{}]").unwrap();
        assert_eq!(Unusual::read_file(&file).unwrap(), [Unusual::default()]);
    }
}
