//! What quotas are read as, fit into, and refused for.

use super::*;
use proptest::prelude::*;

fn quotas(entries: &[(&str, &str)]) -> Quotas {
    Quotas::parse(entries.iter().copied()).unwrap()
}

fn ask(envelope: &Quotas, others: &[Quotas], asked: Option<&Quotas>, ceiling: &Quotas) -> Result<Quotas> {
    grant(&Request { envelope, others, asked, held: &Quotas::default(), ceiling })
}

#[test]
fn two_spellings_of_one_key_are_refused() {
    let error = Quotas::parse([("cpu", "1"), ("requests.cpu", "1")]).unwrap_err();
    assert!(error.message().contains("mean the same"), "{error}");
    for (key, value) in [("cpus", "1"), ("cpu", "-1"), ("pods", "1.5"), ("limits.", "1"), ("cpu", "1e2147483648")] {
        assert!(Quotas::parse([(key, value)]).is_err(), "{key}={value}");
    }
}

#[test]
fn the_sum_of_projects_never_exceeds_the_envelope() {
    let envelope = quotas(&[("cpu", "8"), ("memory", "16Gi")]);
    let six = quotas(&[("cpu", "6")]);
    let error = ask(&envelope, std::slice::from_ref(&six), Some(&quotas(&[("cpu", "3")])), &Quotas::default());
    assert_eq!(error.unwrap_err().message(), "quota overflow: requests.cpu asked 3, granted 6, envelope 8");
    let granted = ask(&envelope, &[six], Some(&quotas(&[("cpu", "2")])), &Quotas::default()).unwrap();
    assert_eq!(granted.get(CPU).unwrap().as_str(), "2");
    assert_eq!(granted.get(MEMORY).unwrap().as_str(), "4Gi");
}

#[test]
fn a_project_without_quotas_gets_a_quarter_of_what_is_free_below_the_ceiling() {
    let envelope = quotas(&[("cpu", "8"), ("memory", "16Gi"), ("pods", "10"), ("projects", "2")]);
    let ceiling = quotas(&[("cpu", "1")]);
    let granted = ask(&envelope, &[], None, &ceiling).unwrap();
    assert_eq!(
        granted.to_map().into_iter().collect::<Vec<_>>(),
        [("pods".to_owned(), "2".to_owned()), (CPU.to_owned(), "1".to_owned()), (MEMORY.to_owned(), "4Gi".to_owned()),]
    );
    let two = [granted.clone(), granted];
    assert!(ask(&envelope, &two, None, &ceiling).unwrap_err().message().contains("projects asked 1, granted 2"));
}

#[test]
fn the_ceiling_holds_for_asked_quotas() {
    let error = ask(&Quotas::default(), &[], Some(&quotas(&[("cpu", "5")])), &quotas(&[("cpu", "4")])).unwrap_err();
    assert!(error.message().contains("requests.cpu 5 is above the platform's quotaMax 4"), "{error}");
}

#[test]
fn an_envelope_is_not_lowered_below_what_is_held() {
    let error = check_envelope(&quotas(&[("memory", "1Gi")]), &[quotas(&[("memory", "2Gi")])]).unwrap_err();
    assert!(error.message().contains("requests.memory 1Gi is below the 2Gi"), "{error}");
}

#[test]
fn keys_that_kubernetes_refuses_are_refused() {
    for key in [
        "requests.foo",
        "limits.pods",
        "count//",
        "count/",
        "requests./",
        "requests.example.com/",
        "requests./gpu",
        "limits.storage",
        "requests.kubernetes.io/x",
        "limits.example.com/gpu",
        "x.storageclass.storage.k8s.io/pods",
        "count/-x",
        "hugepages-2Mi",
    ] {
        assert!(Quotas::parse([(key, "1")]).is_err(), "{key}");
    }
    for key in [
        "requests.nvidia.com/gpu",
        "limits.ephemeral-storage",
        "requests.hugepages-2Mi",
        "count/jobs.batch",
        "count/pods",
        "storage",
        "gold.storageclass.storage.k8s.io/requests.storage",
        "services.loadbalancers",
    ] {
        assert!(Quotas::parse([(key, "1")]).is_ok(), "{key}");
    }
}

#[test]
fn a_small_or_empty_envelope_shuts_nobody_out() {
    for (key, limit, slice) in [
        ("services.loadbalancers", "0", "0"),
        ("requests.nvidia.com/gpu", "2", "1"),
        ("requests.nvidia.com/gpu", "9", "2"),
        ("cpu", "3m", "1m"),
        ("cpu", "500u", "500u"),
        ("memory", "2", "1"),
    ] {
        let envelope = quotas(&[(key, limit)]);
        let granted = ask(&envelope, &[], None, &Quotas::default()).unwrap();
        assert_eq!(granted.get(canonical_key(key)).unwrap(), &Quantity::parse(slice).unwrap(), "{key} {limit}");
        assert_eq!(ask(&envelope, &[quotas(&[(key, limit)])], None, &Quotas::default()).is_ok(), limit == "0", "{key}");
    }
}

#[test]
fn a_key_added_to_an_envelope_counts_what_projects_have_of_it() {
    let implied = quotas(&[("pods", "200"), ("cpu", "4")]);
    let two = [Quotas::default(), quotas(&[("pods", "10"), ("services", "1")])];
    let error = complete(&quotas(&[("pods", "100")]), &two, &implied).unwrap_err();
    assert!(error.message().contains("envelope pods 100 is below the 210"), "{error}");
    let all = complete(&quotas(&[("pods", "210"), ("memory", "8Gi")]), &two, &implied).unwrap();
    let of = |index: usize, key: &str| all[index].get(key).map(ToString::to_string);
    assert_eq!((of(0, "pods").as_deref(), of(1, "pods").as_deref()), (Some("200"), Some("10")));
    assert_eq!((of(0, MEMORY).as_deref(), of(1, MEMORY).as_deref()), (Some("2Gi"), Some("1536Mi")));
    assert_eq!((of(0, CPU), of(1, "services").as_deref()), (None, Some("1")), "only keys of the envelope");
    let full = [quotas(&[("memory", "1Gi")]), Quotas::default()];
    let error = complete(&quotas(&[("memory", "1Gi")]), &full, &implied).unwrap_err();
    assert!(error.message().contains("leaves nothing"), "{error}");
}

#[test]
fn what_is_above_a_lowered_ceiling_may_stay_and_shrink_but_not_grow() {
    let (held, ceiling) = (quotas(&[("cpu", "3")]), quotas(&[("cpu", "2")]));
    let change = |cpu: &str, pods: &str| {
        let asked = quotas(&[("cpu", cpu), ("pods", pods)]);
        grant(&Request {
            envelope: &Quotas::default(),
            others: &[],
            asked: Some(&asked),
            held: &held,
            ceiling: &ceiling,
        })
    };
    for fine in ["3", "2500m", "1"] {
        assert!(change(fine, "5").is_ok(), "{fine}");
    }
    assert!(change("3001m", "5").unwrap_err().message().contains("above the platform's quotaMax 2"));
}

#[test]
fn no_project_holds_more_keys_than_can_be_read_again() {
    let many: Vec<(String, &str)> = (0..100).map(|n| (format!("count/a{n}.example.com"), "1")).collect();
    let asked = Quotas::parse(many.iter().map(|(key, amount)| (key.as_str(), *amount))).unwrap();
    assert!(ask(&Quotas::default(), &[], Some(&asked), &Quotas::default()).is_ok());
    assert!(ask(&quotas(&[("cpu", "4")]), &[], Some(&asked), &Quotas::default()).is_err());
}

proptest! {
    #[test]
    fn any_sequence_of_grants_fits(limit in 1u32..64, asks in proptest::collection::vec(proptest::option::of(0u32..20), 0..30)) {
        let envelope = quotas(&[("cpu", &limit.to_string())]);
        let mut held = Vec::new();
        for asked in asks {
            let own = asked.map(|cpu| quotas(&[("cpu", &cpu.to_string())]));
            if let Ok(granted) = ask(&envelope, &held, own.as_ref(), &Quotas::default()) {
                held.push(granted);
            }
        }
        prop_assert!(check_envelope(&envelope, &held).is_ok());
    }
}
