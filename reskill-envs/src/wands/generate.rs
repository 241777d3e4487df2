//! A catalogue of our own: products with a few properties, queries that ask for some of them, labels that follow from both.

use std::collections::{BTreeMap, HashMap};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::catalogue::{Catalogue, Label, Product, Query};
use super::config::CatalogueConfig;
use crate::error::EnvError;

/// A class of products: its name, the word for one, where it stands, and what it is made of.
struct Kind {
    class: &'static str,
    noun: &'static str,
    department: &'static str,
    materials: &'static [&'static str],
}

const WOOD: &[&str] = &["oak", "pine", "walnut", "bamboo"];
const CLOTH: &[&str] = &["linen", "wool", "velvet", "cotton"];
const HARD: &[&str] = &["steel", "copper", "ceramic", "glass"];

#[rustfmt::skip]
const KINDS: [Kind; 24] = [
    Kind { class: "Armchairs", noun: "armchair", department: "Furniture / Seating", materials: CLOTH },
    Kind { class: "Benches", noun: "bench", department: "Furniture / Seating", materials: WOOD },
    Kind { class: "Bar Stools", noun: "bar stool", department: "Furniture / Seating", materials: WOOD },
    Kind { class: "Desks", noun: "desk", department: "Furniture / Tables", materials: WOOD },
    Kind { class: "Coffee Tables", noun: "coffee table", department: "Furniture / Tables", materials: WOOD },
    Kind { class: "Nightstands", noun: "nightstand", department: "Furniture / Tables", materials: WOOD },
    Kind { class: "Bookcases", noun: "bookcase", department: "Furniture / Storage", materials: WOOD },
    Kind { class: "Dressers", noun: "dresser", department: "Furniture / Storage", materials: WOOD },
    Kind { class: "Shoe Racks", noun: "shoe rack", department: "Furniture / Storage", materials: HARD },
    Kind { class: "Floor Lamps", noun: "floor lamp", department: "Lighting / Lamps", materials: HARD },
    Kind { class: "Table Lamps", noun: "table lamp", department: "Lighting / Lamps", materials: HARD },
    Kind { class: "Pendant Lights", noun: "pendant light", department: "Lighting / Lamps", materials: HARD },
    Kind { class: "Area Rugs", noun: "rug", department: "Textiles / Living", materials: CLOTH },
    Kind { class: "Curtains", noun: "curtain", department: "Textiles / Living", materials: CLOTH },
    Kind { class: "Cushions", noun: "cushion", department: "Textiles / Living", materials: CLOTH },
    Kind { class: "Bed Sheets", noun: "sheet set", department: "Textiles / Bedroom", materials: CLOTH },
    Kind { class: "Blankets", noun: "blanket", department: "Textiles / Bedroom", materials: CLOTH },
    Kind { class: "Pillow Cases", noun: "pillow case", department: "Textiles / Bedroom", materials: CLOTH },
    Kind { class: "Kettles", noun: "kettle", department: "Kitchen / Cooking", materials: HARD },
    Kind { class: "Saucepans", noun: "saucepan", department: "Kitchen / Cooking", materials: HARD },
    Kind { class: "Baking Dishes", noun: "baking dish", department: "Kitchen / Cooking", materials: HARD },
    Kind { class: "Planters", noun: "planter", department: "Outdoor / Garden", materials: HARD },
    Kind { class: "Bird Baths", noun: "bird bath", department: "Outdoor / Garden", materials: HARD },
    Kind { class: "Garden Stools", noun: "garden stool", department: "Outdoor / Garden", materials: WOOD },
];

const COLOURS: [&str; 8] = ["red", "blue", "green", "yellow", "white", "black", "grey", "brown"];
const STYLES: [&str; 5] = ["rustic", "modern", "coastal", "classic", "industrial"];
const MAKERS: [&str; 10] =
    ["alder", "brook", "corvin", "dunmore", "eastlake", "fenwick", "garland", "hollis", "ivor", "juniper"];

/// Products of a class.
const PRODUCTS_OF_A_CLASS: usize = 24;

/// What a product is, in numbers into the lists above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traits {
    kind: usize,
    colour: &'static str,
    material: &'static str,
    style: &'static str,
}

/// What a query asks for.
#[derive(Debug, Clone, Copy)]
struct Wish {
    kind: usize,
    colour: Option<&'static str>,
    material: Option<&'static str>,
    style: Option<&'static str>,
}

impl Wish {
    /// `Exact` if class and all that is asked for fit; `Partial` if the class fits, or the department and all that is asked
    /// for; else `Irrelevant`.
    fn label(&self, product: &Traits) -> Label {
        let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        let all_fit = fits(self.colour, product.colour)
            && fits(self.material, product.material)
            && fits(self.style, product.style);
        let is_near = KINDS[self.kind].department == KINDS[product.kind].department;
        match (self.kind == product.kind, all_fit) {
            (true, true) => Label::Exact,
            (true, false) => Label::Partial,
            (false, true) if is_near => Label::Partial,
            (false, _) => Label::Irrelevant,
        }
    }

    fn words(&self) -> String {
        let adjectives = [self.style, self.colour, self.material].into_iter().flatten();
        adjectives.chain([KINDS[self.kind].noun]).collect::<Vec<_>>().join(" ")
    }
}

impl Catalogue {
    /// A catalogue of our own words: 24 classes with 24 products each, queries for one to three properties, and the labels
    /// that follow from them. Half of the names tell the colour; class, material and style stand in the features or the
    /// description. Every query has products of at least two labels.
    ///
    /// # Errors
    /// [`EnvError::Config`].
    pub fn generate(config: &CatalogueConfig) -> Result<Catalogue, EnvError> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut traits: BTreeMap<u64, Traits> = BTreeMap::new();
        let mut products = HashMap::new();
        for kind in 0..KINDS.len() {
            for _ in 0..PRODUCTS_OF_A_CLASS {
                let id = traits.len() as u64;
                let of = draw_traits(kind, &mut rng);
                products.insert(id, describe(&of, &mut rng));
                traits.insert(id, of);
            }
        }
        let mut catalogue = Catalogue { products, ..Catalogue::default() };
        for id in 0..config.n_queries as u64 {
            // The classes take turns, so that each has queries.
            let kind = id as usize % KINDS.len();
            let wish = draw_wish(kind, &traits, &mut rng);
            let query = Query { text: wish.words(), class: KINDS[kind].class.to_owned() };
            catalogue.queries.insert(id, query);
            catalogue.labels.insert(id, judged(&wish, &traits, config.products_per_query, &mut rng));
        }
        Ok(catalogue)
    }
}

fn one_of<'a>(words: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    words[rng.random_range(0..words.len())]
}

fn draw_traits(kind: usize, rng: &mut ChaCha8Rng) -> Traits {
    Traits {
        kind,
        colour: one_of(&COLOURS, rng),
        material: one_of(KINDS[kind].materials, rng),
        style: one_of(&STYLES, rng),
    }
}

/// Some properties of a product that there is, so that something fits.
fn draw_wish(kind: usize, traits: &BTreeMap<u64, Traits>, rng: &mut ChaCha8Rng) -> Wish {
    let first = kind * PRODUCTS_OF_A_CLASS;
    let like = traits[&(rng.random_range(first..first + PRODUCTS_OF_A_CLASS) as u64)];
    let wish = |colour: bool, material: bool, style: bool| Wish {
        kind,
        colour: colour.then_some(like.colour),
        material: material.then_some(like.material),
        style: style.then_some(like.style),
    };
    match rng.random_range(0..5) {
        0 => wish(true, false, false),
        1 => wish(false, true, false),
        2 => wish(true, true, false),
        3 => wish(true, false, true),
        _ => wish(true, true, true),
    }
}

/// Products with their labels, a third of each label as far as there are, in a drawn order.
fn judged(
    wish: &Wish,
    traits: &BTreeMap<u64, Traits>,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<(u64, Label)> {
    let mut chosen = Vec::new();
    for (index, label) in Label::ALL.into_iter().rev().enumerate() {
        let of_label: Vec<u64> =
            traits.iter().filter(|(_, product)| wish.label(product) == label).map(|(&id, _)| id).collect();
        // What rarer labels lack, the others make up for.
        let share = (count - chosen.len()) / (Label::ALL.len() - index);
        chosen.extend(of_label.sample(rng, share).map(|&id| (id, label)));
    }
    chosen.shuffle(rng);
    chosen
}

fn describe(of: &Traits, rng: &mut ChaCha8Rng) -> Product {
    let Traits { kind, colour, material, style } = *of;
    let Kind { class, noun, department, .. } = KINDS[kind];
    let maker = one_of(&MAKERS, rng);
    let name =
        if rng.random_bool(0.5) { format!("{maker} {colour} {noun}") } else { format!("{maker} {noun}") };
    let width = rng.random_range(10..=90);
    Product {
        name,
        class: class.to_owned(),
        category: format!("{department} / {class}"),
        description: format!("a {noun} in {style} style , made of {material} . it is {width} inches wide ."),
        features: format!("color : {colour}|material : {material}|style : {style}|width : {width}"),
    }
}
