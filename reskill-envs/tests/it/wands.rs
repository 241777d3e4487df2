//! Product choices: tasks, splits, look-ups, the files and what can be wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use reskill_envs::prompt::{PromptBuilder, PromptConfig, PromptLayout, PromptStyle};
use reskill_envs::wands::{Catalogue, CatalogueConfig, Label, OptionSet, Product, Query, Wands, WandsConfig};
use reskill_envs::{EnvError, Split, Suite, Task, TaskId};

use crate::data::data;

fn config() -> WandsConfig {
    WandsConfig {
        options: vec![OptionSet::Two, OptionSet::Three, OptionSet::TwoOrNeither],
        catalogue: CatalogueConfig { n_queries: 120, ..CatalogueConfig::default() },
        ..WandsConfig::default()
    }
}

fn all_tasks(suite: &Wands) -> Vec<Arc<Task>> {
    Split::ALL.iter().flat_map(|&split| suite.tasks(split)).cloned().collect()
}

/// Three products for one query, with awkward texts.
fn small() -> Catalogue {
    let product = |name: &str, class: &str, features: &str| Product {
        name: name.into(),
        class: class.into(),
        category: "Home / \"Best\"".into(),
        description: "line one\nline\ttwo 'quoted' \"twice\"".into(),
        features: features.into(),
    };
    Catalogue {
        products: [
            (
                7,
                product(
                    "oak chair 24 '' wide",
                    "Chairs|Stools",
                    "color : red|material : oak : solid||weight",
                ),
            ),
            (8, product("\"fancy\" chair", "", "")),
            (9, Product { name: "lamp".into(), ..Product::default() }),
        ]
        .into(),
        queries: [(3, Query { text: "red chair".into(), class: "Chairs".into() })].into(),
        labels: [(3, vec![(9, Label::Irrelevant), (7, Label::Exact), (8, Label::Partial)])].into(),
    }
}

#[test]
fn the_expert_wins_every_task() {
    let suite = Wands::generate(&config()).unwrap();
    let tasks = all_tasks(&suite);
    let mut families: BTreeMap<&str, usize> = BTreeMap::new();
    for task in &tasks {
        *families.entry(&task.family).or_default() += 1;
        let mut env = suite.open(&task.id).unwrap();
        let first = env.reset().unwrap();
        let mut admissible = first.admissible;
        let plan = env.expert().unwrap();
        for (index, command) in plan.iter().enumerate() {
            assert!(admissible.contains(command), "{}: {command}", task.id);
            let step = env.step(command).unwrap();
            let is_last = index + 1 == plan.len();
            assert_eq!(
                (step.won, step.done, step.score),
                (is_last, is_last, f32::from(u8::from(is_last))),
                "{}",
                task.id
            );
            admissible = step.observation.admissible;
        }
        assert!(env.expert().is_err());
    }
    assert_eq!(families.keys().copied().collect::<Vec<_>>(), ["2-opt", "2-opt-neither", "3-opt"]);
    assert!(families.values().all(|&count| count > 300), "{families:?}");
}

#[test]
fn the_right_option_alone_has_the_highest_label_and_neither_is_right_where_they_are_equal() {
    let suite = Wands::generate(&config()).unwrap();
    let mut places: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for task in all_tasks(&suite) {
        let (query, products, gold) = suite.gold(&task.id).unwrap();
        let label = |product: &u64| {
            let labelled = &suite.catalogue().labels[&query];
            labelled.iter().find(|(id, _)| id == product).map(|(_, label)| *label).unwrap()
        };
        let labels: Vec<Label> = products.iter().map(label).collect();
        let best = labels.iter().max().unwrap();
        let n_best = labels.iter().filter(|label| *label == best).count();
        assert_eq!(products.iter().collect::<BTreeSet<_>>().len(), products.len(), "{}", task.id);
        if gold == products.len() {
            assert_eq!((task.family.as_str(), n_best), ("2-opt-neither", 2), "{}", task.id);
        } else {
            assert_eq!((n_best, &labels[gold]), (1, best), "{}", task.id);
        }
        *places.entry((task.family.clone(), gold)).or_default() += 1;
    }
    // Each place is right about as often: some 450 tasks a kind, so 5 standard deviations are 53 of 2 and 50 of 3.
    let count = |family: &str, gold| places[&(family.to_owned(), gold)];
    let (one, two) = (count("2-opt", 0), count("2-opt", 1));
    assert!(one.abs_diff(two) < 106, "{places:?}");
    for (family, gold) in [("3-opt", 0), ("3-opt", 1), ("3-opt", 2), ("2-opt-neither", 2)] {
        let of_family: usize = (0..3).filter_map(|gold| places.get(&(family.to_owned(), gold))).sum();
        assert!(count(family, gold).abs_diff(of_family / 3) < 50, "{places:?}");
    }
}

#[test]
fn equal_settings_give_equal_tasks_and_other_seeds_others() {
    let ids = |config: &WandsConfig| -> Vec<_> {
        let suite = Wands::generate(config).unwrap();
        all_tasks(&suite)
            .iter()
            .map(|task| (task.clone(), suite.gold(&task.id).map(|gold| gold.1.to_vec())))
            .collect()
    };
    let same = ids(&config());
    assert_eq!(same, ids(&config()));
    assert_ne!(same, ids(&WandsConfig { seed: 1, ..config() }));
    let catalogue = CatalogueConfig { seed: 1, ..config().catalogue };
    assert_ne!(same, ids(&WandsConfig { catalogue, ..config() }));
}

#[test]
fn unseen_classes_are_never_trained_on_and_no_query_is_in_two_splits() {
    let suite = Wands::generate(&config()).unwrap();
    let of = |split: Split| -> (BTreeSet<u64>, BTreeSet<&str>) {
        let queries: BTreeSet<u64> =
            suite.tasks(split).iter().map(|task| suite.gold(&task.id).unwrap().0).collect();
        let classes = queries.iter().map(|id| suite.catalogue().queries[id].class.as_str()).collect();
        (queries, classes)
    };
    let (train, seen, unseen) = (of(Split::Train), of(Split::ValidSeen), of(Split::ValidUnseen));
    assert!(train.0.is_disjoint(&seen.0) && train.0.is_disjoint(&unseen.0) && seen.0.is_disjoint(&unseen.0));
    assert!(train.1.is_disjoint(&unseen.1) && seen.1.is_subset(&train.1));
    // A fifth of 24 classes.
    assert_eq!(unseen.1.len(), 5);
    assert!(train.0.len() > 50 && seen.0.len() > 15, "{} {}", train.0.len(), seen.0.len());
}

#[test]
fn generated_labels_follow_from_what_is_asked() {
    let catalogue = Catalogue::generate(&CatalogueConfig::default()).unwrap();
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    for (id, labelled) in &catalogue.labels {
        let query = &catalogue.queries[id];
        let levels: BTreeSet<Label> = labelled.iter().map(|(_, label)| *label).collect();
        assert!(levels.len() >= 2 && labelled.len() == 16, "{query:?}");
        for (product, label) in labelled {
            *counts.entry(*label).or_default() += 1;
            let product = &catalogue.products[product];
            let wanted: Vec<&str> = query.text.split(' ').collect();
            let is_same = product.class == query.class;
            let is_asked = |pair: &&str| {
                let value = pair.split(" : ").nth(1).unwrap();
                wanted.contains(&value)
            };
            let fitting = product.features.split('|').filter(is_asked).count();
            let noun = product.description.split(" in ").next().unwrap().trim_start_matches("a ");
            if is_same {
                let asked = wanted.len() - noun.split(' ').count();
                assert_eq!(*label == Label::Exact, fitting == asked, "{query:?} {product:?}");
                assert_ne!(*label, Label::Irrelevant, "{query:?} {product:?}");
            } else {
                assert_ne!(*label, Label::Exact, "{query:?} {product:?}");
            }
        }
    }
    assert!(counts.values().all(|&count| count > 1000), "{counts:?}");
}

#[test]
fn look_ups_show_one_property_of_one_option() {
    let config = WandsConfig { options: vec![OptionSet::Three], shown_chars: 12, ..WandsConfig::default() };
    let suite = Wands::over(small(), &config).unwrap();
    let task = all_tasks(&suite)[0].clone();
    assert_eq!(
        (task.id.0.as_str(), task.goal.as_str()),
        ("3-opt/3/0", "choose the product that fits best: red chair")
    );
    let (_, products, gold) = suite.gold(&task.id).unwrap();
    let mut env = suite.open(&task.id).unwrap();
    let first = env.reset().unwrap();
    assert_eq!(first.text, "query: red chair\noptions: option 1, option 2, option 3");
    assert_eq!(first.admissible.len(), 15);
    let number = |product: u64| 1 + products.iter().position(|id| *id == product).unwrap();
    assert_eq!(gold + 1, number(7));
    let mut see = |attribute: &str, product: u64| {
        let n = number(product);
        let step = env.step(&format!("look up {attribute} of option {n}")).unwrap();
        assert!(!step.done);
        step.observation.text.replace(&format!("option {n}"), "it")
    };
    assert_eq!(see("name", 7), "name of it: oak chair 24 '' wide");
    assert_eq!(see("class", 7), "class of it: Chairs, Stools; in Home / \"Best\"");
    assert_eq!(see("class", 8), "class of it: in Home / \"Best\"");
    assert_eq!(see("features", 7), "features of it: color: red; material: oak : solid; weight");
    assert_eq!(see("features", 8), "features of it: nothing is known");
    assert_eq!(see("class", 9), "class of it: nothing is known");
    assert_eq!(see("description", 8), "description of it: line one\nlin...");
    for odd in
        ["look up price of option 1", "look up name of option 4", "choose neither", "choose", "look", ""]
    {
        let step = env.step(odd).unwrap();
        assert_eq!((step.observation.text.as_str(), step.done), ("There is no such action.", false), "{odd}");
        assert_eq!(step.observation.admissible, first.admissible);
    }
    let mut copy = env.boxed_clone().unwrap();
    let wrong = env.step(&format!("choose option {}", number(9))).unwrap();
    assert_eq!((wrong.score, wrong.done, wrong.won), (0.0, true, false));
    assert!(wrong.observation.admissible.is_empty());
    assert!(!env.step(&format!("choose option {}", number(7))).unwrap().won, "a choice is final");
    assert!(copy.step(&format!(" choose option {} ", number(7))).unwrap().won);
}

#[test]
fn words_of_the_query_are_marked_on_request() {
    let config =
        WandsConfig { mark_query_words: true, options: vec![OptionSet::Three], ..WandsConfig::default() };
    let suite = Wands::over(small(), &config).unwrap();
    let task = all_tasks(&suite)[0].clone();
    let n = 1 + suite.gold(&task.id).unwrap().1.iter().position(|id| *id == 7).unwrap();
    let mut env = suite.open(&task.id).unwrap();
    let mut see =
        |attribute: &str| env.step(&format!("look up {attribute} of option {n}")).unwrap().observation.text;
    assert_eq!(see("name"), format!("name of option {n}: oak * chair 24 '' wide"));
    assert_eq!(see("class"), format!("class of option {n}: Chairs, Stools; in Home / \"Best\""));
    assert_eq!(
        see("features"),
        format!("features of option {n}: color: * red; material: oak : solid; weight")
    );
}

#[test]
fn files_are_read_as_they_are_written_with_tabs_line_ends_and_quotes() {
    let dir = tempfile::tempdir().unwrap();
    for catalogue in [small(), Catalogue::generate(&config().catalogue).unwrap()] {
        catalogue.write(dir.path()).unwrap();
        assert!(catalogue == Catalogue::open(dir.path()).unwrap());
    }
    assert_eq!(
        all_tasks(&Wands::open_path(dir.path(), &config()).unwrap()),
        all_tasks(&Wands::generate(&config()).unwrap())
    );
    // As the public files have it: no quotes around fields, columns in another order, further columns.
    write(
        dir.path(),
        "product.csv",
        &[
            "rating_count\tproduct_class\tproduct_id\tproduct_name\tcategory_hierarchy\taverage_rating",
            "3.0\tChairs\t7\tchair 24 \" wide 'x'\tHome / Chairs\t",
            "\t\t8\t 18 '' stool \t\t4.5",
        ],
    );
    write(dir.path(), "query.csv", &["query_id\tquery\tquery_class", "3\tred chair\t"]);
    write(
        dir.path(),
        "label.csv",
        &["id\tquery_id\tproduct_id\tlabel", "0\t3\t7\tExact", "1\t3\t8\tPartial"],
    );
    let read = Catalogue::open(dir.path()).unwrap();
    assert_eq!(read.products[&7].name, "chair 24 \" wide 'x'");
    assert_eq!((read.products[&8].name.as_str(), read.products[&8].class.as_str()), ("18 '' stool", ""));
    assert_eq!(read.products[&7].category, "Home / Chairs");
    assert_eq!(all_tasks(&Wands::over(read, &WandsConfig::default()).unwrap()).len(), 1);
}

fn write(dir: &Path, name: &str, lines: &[&str]) {
    fs::write(dir.join(name), lines.join("\n") + "\n").unwrap();
}

#[test]
fn broken_files_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let check = |name: &str, lines: &[&str], fragments: &[&str]| {
        small().write(dir).unwrap();
        write(dir, name, lines);
        let error = Wands::open_path(dir, &WandsConfig::default()).err().unwrap();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let message = format!("{error}: {source}");
        for fragment in fragments.iter().chain([&name]) {
            assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
        }
    };
    let products = "product_id\tproduct_name\tproduct_class";
    check(
        "product.csv",
        &["product_id\tname\tproduct_class", "7\tx\ty"],
        &["`product_name`", "there are product_id, name"],
    );
    check(
        "product.csv",
        &["product_id,product_name,product_class", "7,x,y"],
        &["`product_id`", "no such column"],
    );
    check("product.csv", &[products, "seven\tx\ty"], &["`product_id`", "line 2", "`seven` is no number"]);
    check("product.csv", &[products, "7\tx\ty", "7\tz\ty"], &["line 3", "a second time"]);
    check("product.csv", &[products, "7\tx"], &["`row`", "line: 2", "2 fields"]);
    check("product.csv", &[products, "7\tx\ty\tz"], &["`row`", "line: 2", "4 fields"]);
    check("product.csv", &[products, "7\t\"x\ty", "8\ta\tb"], &["`row`", "fields"]);
    check("query.csv", &["query_id\tquery\tquery_class", "3\t\tChairs"], &["`query`", "line 2", "empty"]);
    check("query.csv", &[""], &["`query_id`", "no such column"]);
    let labels = "id\tquery_id\tproduct_id\tlabel";
    check(
        "label.csv",
        &[labels, "0\t3\t7\tExact", "1\t3\t8\texact"],
        &["`label`", "line 3", "`exact`", "Irrelevant"],
    );
    check("label.csv", &[labels, "0\t4\t7\tExact"], &["`query_id`", "line 2", "no query 4"]);
    check("label.csv", &[labels, "0\t3\t70\tExact"], &["`product_id`", "line 2", "no product 70"]);
    small().write(dir).unwrap();
    write(dir, "label.csv", &[labels, "0\t3\t7\tExact", "1\t3\t8\tExact"]);
    let error = Wands::open_path(dir, &WandsConfig::default()).err().unwrap();
    assert!(matches!(&error, EnvError::NoGames { .. }), "{error}");
    fs::write(dir.join("query.csv"), [b'q', 0xff, b'\n']).unwrap();
    assert!(Catalogue::open(dir).unwrap_err().to_string().contains("query.csv"));
    fs::remove_file(dir.join("product.csv")).unwrap();
    assert!(Catalogue::open(dir).unwrap_err().to_string().contains("product.csv: cannot be read"));
}

#[test]
fn settings_out_of_range_are_refused() {
    let check = |config: WandsConfig, key: &str| {
        let error = Wands::generate(&config).err().unwrap().to_string();
        assert!(error.contains(key), "{error}");
    };
    check(WandsConfig { options: vec![], ..config() }, "`options`");
    check(WandsConfig { options: vec![OptionSet::Two, OptionSet::Two], ..config() }, "`options`");
    check(WandsConfig { tasks_per_query: 0, ..config() }, "`tasks_per_query` = 0");
    check(WandsConfig { unseen_share: 1.0, ..config() }, "`unseen_share` = 1");
    check(
        WandsConfig { catalogue: CatalogueConfig { n_queries: 0, ..config().catalogue }, ..config() },
        "`n_queries`",
    );
    let catalogue = CatalogueConfig { products_per_query: 5, ..config().catalogue };
    check(WandsConfig { catalogue, ..config() }, "`products_per_query` = 5");
    let suite = Wands::generate(&config()).unwrap();
    assert!(matches!(suite.open(&TaskId("4-opt/0/0".into())), Err(EnvError::UnknownTask { .. })));
    let all = Wands::generate(&WandsConfig { unseen_share: 0.0, ..config() }).unwrap();
    assert!(all.tasks(Split::ValidUnseen).is_empty());
}

#[test]
fn prompts_of_both_layouts_hold_query_look_ups_and_guidance() {
    let suite = Wands::generate(&config()).unwrap();
    let task = &suite.tasks(Split::Train)[0];
    for prompt_layout in [PromptLayout::TrunkBranch, PromptLayout::Paper] {
        for style in [PromptStyle::Words, PromptStyle::Plain] {
            let config = PromptConfig {
                prompt_layout,
                style: Some(style),
                history_observations: true,
                ..PromptConfig::default()
            };
            let mut builder = PromptBuilder::new(&config, task).speaking(&suite.manner());
            let mut env = suite.open(&task.id).unwrap();
            let mut now = env.reset().unwrap();
            let mut text = builder.opening(task, &["names deceive"]);
            text += &builder.branch(suite.vocabulary(), &now, &[]);
            let command = "look up name of option 2";
            now = env.step(command).unwrap().observation;
            text += &builder.entry(suite.vocabulary(), Some(command), &now.text);
            text += &builder.branch(suite.vocabulary(), &now, &["next choose"]);
            for part in [&task.goal, "names deceive", "look up name of", "name of option 2: ", "next choose"]
            {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
    let verbs = suite.vocabulary().verbs();
    assert_eq!(
        verbs,
        ["look up name of", "look up class of", "look up description of", "look up features of", "choose"]
    );
}

#[test]
fn real_products_queries_and_labels_are_read() {
    let Some(folder) = data("wands", "query.csv") else { return };
    let file = |name: &str| folder.join(name);
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("label.csv");
    write(dir.path(), "label.csv", &["id\tquery_id\tproduct_id\tlabel"]);
    let catalogue = Catalogue::read(&file("product_sample.tsv"), &file("query.csv"), &none).unwrap();
    assert_eq!((catalogue.products.len(), catalogue.queries.len()), (148, 480));
    assert_eq!(catalogue.products[&441].class, "Patio Dining Sets");
    assert!(catalogue.products.values().filter(|product| product.features.contains(" : ")).count() > 140);
    assert_eq!(catalogue.queries[&0], Query { text: "salon chair".into(), class: "Massage Chairs".into() });
    let judged = Catalogue::read(
        &file("judged_sample_products.tsv"),
        &file("query.csv"),
        &file("judged_sample_labels.tsv"),
    )
    .unwrap();
    assert_eq!((judged.products.len(), judged.labels.values().map(Vec::len).sum::<usize>()), (22, 7));
    let suite = Wands::over(judged, &WandsConfig { unseen_share: 0.0, ..WandsConfig::default() }).unwrap();
    // Only query 12 has two labels.
    let tasks = all_tasks(&suite);
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].id.0, "2-opt/12/0");
    let (_, products, gold) = suite.gold(&tasks[0].id).unwrap();
    assert_eq!(products[gold], 224);
}
