use reskill_kernels::Device;
use reskill_model::constraint::Unconstrained;
use reskill_model::{Generator, KvCache, Reply, Request, SamplingParams, Transformer};

use crate::support::{config, model, rng, tokens};

const PARAMS: SamplingParams = SamplingParams { temperature: 1.0, max_new_tokens: 5, end_token: 22 };

/// What a slot says next.
fn reply(generator: &mut Generator, model: &Transformer, slot: usize, tokens: &[u32]) -> Reply {
    let mut requests = [Request { slot, tokens, constraint: &Unconstrained, rng: rng(7) }];
    generator.generate(model, &mut requests, &PARAMS).unwrap().0.remove(0)
}

/// The reply after a prompt that was run at once, in a cache of its own.
fn check(model: &Transformer, got: &Reply, prompt: &[u32]) {
    let mut fresh = Generator::new(model.config(), 1, 64).unwrap();
    assert_eq!(got, &reply(&mut fresh, model, 0, prompt));
}

#[test]
fn a_truncated_slot_goes_on_as_if_the_rest_had_never_been() {
    let model = model(&config(true), 1);
    let prompt = tokens(20, 22, 1);
    let mut generator = Generator::new(model.config(), 2, 40).unwrap();
    generator.extend(&model, &[(1, &prompt)]).unwrap();
    reply(&mut generator, &model, 1, &[4, 5, 6]);
    generator.cache_mut().truncate(1, 13);
    assert_eq!(generator.cache().len(1), 13);
    check(&model, &reply(&mut generator, &model, 1, &[8, 9]), &[&prompt[..13], &[8, 9]].concat());
    // Nothing is there to forget beyond the end.
    generator.cache_mut().truncate(0, 5);
    assert_eq!(generator.cache().len(0), 0);
}

#[test]
fn a_copied_prefix_equals_the_prefix_run_again() {
    let model = model(&config(false), 1);
    let (a, b) = (tokens(17, 22, 1), tokens(30, 22, 2));
    // A capacity that is no multiple of what the kernels like.
    let mut generator = Generator::new(model.config(), 3, 37).unwrap();
    generator.extend(&model, &[(0, &a), (2, &b)]).unwrap();
    generator.cache_mut().copy_prefix(0, 1, 17);
    generator.cache_mut().copy_prefix(0, 2, 9);
    assert_eq!([0, 1, 2].map(|slot| generator.cache().len(slot)), [17, 17, 9]);
    check(&model, &reply(&mut generator, &model, 1, &[3]), &[&a[..], &[3]].concat());
    check(&model, &reply(&mut generator, &model, 2, &[3, 4]), &[&a[..9], &[3, 4]].concat());
    check(&model, &reply(&mut generator, &model, 0, &[3]), &[&a[..], &[3]].concat());
}

#[test]
fn a_copy_of_more_than_there_is_takes_what_there_is() {
    let model = model(&config(true), 1);
    let mut generator = Generator::new(model.config(), 2, 20).unwrap();
    generator.extend(&model, &[(0, &[1, 2, 3])]).unwrap();
    generator.cache_mut().copy_prefix(0, 1, 10);
    assert_eq!(generator.cache().len(1), 3);
    check(&model, &reply(&mut generator, &model, 1, &[4]), &[1, 2, 3, 4]);
}

#[test]
fn a_slot_fills_to_its_capacity() {
    let model = model(&config(true), 1);
    let prompt = tokens(16, 22, 3);
    let mut generator = Generator::new(model.config(), 2, 17).unwrap();
    generator.extend(&model, &[(0, &prompt), (1, &prompt[..1])]).unwrap();
    let one = SamplingParams { max_new_tokens: 1, ..PARAMS };
    let mut requests = [Request { slot: 0, tokens: &[5], constraint: &Unconstrained, rng: rng(7) }];
    let (replies, _) = generator.generate(&model, &mut requests, &one).unwrap();
    let mut fresh = Generator::new(model.config(), 1, 64).unwrap();
    let whole = [&prompt[..], &[5]].concat();
    let mut requests = [Request { slot: 0, tokens: &whole, constraint: &Unconstrained, rng: rng(7) }];
    assert_eq!(replies, fresh.generate(&model, &mut requests, &one).unwrap().0);
    assert_eq!((generator.cache().slots(), generator.cache().capacity()), (2, 17));
    assert!(!generator.cache().is_empty());
}

#[test]
fn shared_pages_are_copied_when_one_owner_writes_and_freed_by_the_last() {
    let model = model(&config(true), 1);
    let prompt = tokens(40, 22, 1);
    let cache = KvCache::with_max_pages(&Device::Cpu, model.config(), 3, 64, 5).unwrap();
    let mut generator = Generator::with_cache(cache);
    generator.extend(&model, &[(0, &prompt)]).unwrap();
    assert_eq!(generator.cache().free_pages(), 3, "40 tokens are two pages of 32");
    generator.cache_mut().copy_prefix(0, 1, 40);
    generator.cache_mut().copy_prefix(0, 2, 32);
    assert_eq!(generator.cache().free_pages(), 3, "copies share");
    assert_eq!([0, 1, 2].map(|slot| generator.cache().pages_to_grow(slot, 1)), [1, 1, 1]);
    // Slot 1 copies the half-full page, slot 2 begins a new one, slot 0 then has its page alone.
    check(&model, &reply(&mut generator, &model, 1, &[3]), &[&prompt[..], &[3]].concat());
    check(&model, &reply(&mut generator, &model, 2, &[4]), &[&prompt[..32], &[4]].concat());
    check(&model, &reply(&mut generator, &model, 0, &[5]), &[&prompt[..], &[5]].concat());
    assert_eq!(generator.cache().free_pages(), 1);
    (0..3).for_each(|slot| generator.cache_mut().truncate(slot, 0));
    assert_eq!(generator.cache().free_pages(), 5);
}

#[test]
fn a_full_cache_is_an_error_that_changes_nothing() {
    let model = model(&config(true), 1);
    let prompt = tokens(40, 22, 1);
    let cache = KvCache::with_max_pages(&Device::Cpu, model.config(), 2, 64, 3).unwrap();
    let mut generator = Generator::with_cache(cache);
    generator.extend(&model, &[(0, &prompt)]).unwrap();
    let error = generator.extend(&model, &[(0, &[7]), (1, &prompt)]).unwrap_err().to_string();
    assert!(error.contains("has 1 free pages of 32 tokens, 2 are needed"), "{error}");
    assert_eq!([0, 1].map(|slot| generator.cache().len(slot)), [40, 0]);
    assert_eq!(generator.cache().free_pages(), 1);
    check(&model, &reply(&mut generator, &model, 0, &[3]), &[&prompt[..], &[3]].concat());
}
