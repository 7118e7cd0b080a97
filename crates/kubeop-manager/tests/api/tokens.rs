//! Tokens at the door: whatever is wrong with one is 401, for every operation that needs a caller.
//!
//! Invariant: a token is refused for one reason at a time here; its twin without that flaw is let in.

use crate::database;
use crate::fixture::{Fixture, is_open, operations};
use crate::world::World;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::clock::Clock;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_manager::auth::token::Tokens;
use kubeop_manager::jobs::credentials;
use secrecy::SecretSlice;
use serde_json::{Value, json};

const KEY: &[u8] = &[7; 32];

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &str, claims: &str, key: &[u8]) -> String {
    let text = format!("{}.{}", encode(header), encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let tag = encode(aws_lc_rs::hmac::sign(&key, text.as_bytes()));
    format!("{text}.{tag}")
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn claims(fixture: &Fixture) -> Value {
    let now = fixture.clock.now().as_second();
    json!({"iss": "kubeop", "sub": "admin", "role": "admin", "iat": now, "exp": now + 3600})
}

async fn status(fixture: &Fixture, token: &str) -> StatusCode {
    let answer = fixture.call("GET", "/v1/clusters", Some(token), None).await;
    if answer.status == StatusCode::UNAUTHORIZED {
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        let sentence = answer.error();
        assert!(!sentence.contains(token) || token.len() < 3, "{sentence}");
    }
    answer.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_a_token_is_401() {
    database::sqlite(|store| async {
        let fixture = Fixture::over(store).await;
        let good = claims(&fixture);
        let now = fixture.clock.now().as_second();
        assert_eq!(status(&fixture, &signed(HEADER, &good.to_string(), KEY)).await, StatusCode::OK);
        for (claim, value, expected) in [
            ("exp", json!(now - 31), 401),
            ("exp", json!(now - 29), 200),
            ("exp", json!(0), 401),
            ("exp", json!(-1), 401),
            ("exp", json!(i64::MIN), 401),
            ("exp", json!("9999999999"), 401),
            ("exp", json!(null), 401),
            ("exp", json!([]), 401),
            ("exp", json!(1e30), 401),
            ("exp", json!(i64::MAX), 200),
            ("iat", json!(now + 31), 401),
            ("iat", json!(now + 29), 200),
            ("iat", json!("now"), 401),
            ("iat", json!(i64::MAX), 401),
            ("nbf", json!(now + 31), 401),
            ("nbf", json!(now + 29), 200),
            ("nbf", json!(now - 9), 200),
            ("nbf", json!("x"), 401),
            ("iss", json!("kubeop "), 401),
            ("iss", json!("other"), 401),
            ("iss", json!(null), 401),
            ("iss", json!(["other"]), 401),
            ("sub", json!(null), 401),
            ("sub", json!(1), 401),
            ("role", json!("Admin"), 401),
            ("role", json!("root"), 401),
            ("role", json!(["admin"]), 401),
            ("role", json!(""), 401),
            ("role", json!("tenant"), 401),
            ("role", json!("project"), 401),
            ("tenant_id", json!("00000000-0000-0000-0000-000000000001"), 401),
            ("project_id", json!("x"), 401),
            ("jti", json!(1), 401),
            ("jti", json!({}), 401),
            ("jti", json!("fresh"), 200),
            ("aud", json!("anything"), 401),
            ("aud", json!("kubeop"), 200),
            ("aud", json!(["a", "b"]), 401),
            ("aud", json!([]), 401),
            ("aud", json!(null), 401),
            ("aud", json!(["a", "kubeop"]), 200),
        ] {
            let mut changed = good.clone();
            changed[claim] = value.clone();
            let got = status(&fixture, &signed(HEADER, &changed.to_string(), KEY)).await;
            assert_eq!(got.as_u16(), expected, "{claim} = {value}");
        }
        for claim in ["exp", "iat", "iss", "sub", "role"] {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(claim);
            assert_eq!(status(&fixture, &signed(HEADER, &without.to_string(), KEY)).await, 401, "without {claim}");
        }
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":"HS512","typ":"JWT"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            "{}",
            "[]",
            "null",
            "\"HS256\"",
            "",
            "{",
            r#"{"alg":"HS256","kid":"unknown"}"#,
            r#"{"alg":"HS256","kid":""}"#,
            r#"{"alg":"HS256","kid":7}"#,
            r#"{"alg":"HS256","kid":"../../dev/null"}"#,
            r#"{"alg":"HS256","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","typ":"JWE"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","b64":false,"crit":["exp"]}"#,
        ] {
            assert_eq!(status(&fixture, &signed(header, &good.to_string(), KEY)).await, 401, "{header}");
        }
        for body in ["", "{", "null", "[]", "1", "\"x\"", "{}", "{\"role\":\"admin\"}"] {
            assert_eq!(status(&fixture, &signed(HEADER, body, KEY)).await, 401, "{body}");
        }
        let twice = good.to_string().replace("\"role\":\"admin\"", "\"role\":\"project\",\"role\":\"admin\"");
        assert_eq!(status(&fixture, &signed(HEADER, &twice, KEY)).await, 401, "a claim that is given twice");
        assert_eq!(status(&fixture, &signed(HEADER, &good.to_string(), &[8; 32])).await, 401, "another key");
        assert_eq!(status(&fixture, &signed(HEADER, &good.to_string(), b"")).await, 401, "no key");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_tokens_that_are_signed_with_our_own_key_are_401() {
    database::sqlite(|store| async {
        let fixture = Fixture::over(store).await;
        let good = claims(&fixture).to_string();
        let now = fixture.clock.now().as_second();
        let with = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
        let set = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            text
        };
        let exp = format!("\"exp\":{}", now + 3600);
        let deep = format!("\"x\":{}{}", "[".repeat(1500), "]".repeat(1500));
        for (what, text) in [
            ("a float exp", set(&exp, &format!("\"exp\":{}.5", now + 3600))),
            ("an exp with an exponent", set(&exp, "\"exp\":1e12")),
            ("an exp past i64", set(&exp, "\"exp\":9223372036854775808")),
            ("an exp past u64", set(&exp, "\"exp\":99999999999999999999999999")),
            ("an exp below i64", set(&exp, "\"exp\":-9223372036854775809")),
            ("an infinite exp", set(&exp, "\"exp\":1e999")),
            ("an exp that is no number", set(&exp, "\"exp\":NaN")),
            ("an exp that is true", set(&exp, "\"exp\":true")),
            ("exp twice", with(&exp)),
            ("iss twice", with("\"iss\":\"kubeop\"")),
            ("sub twice", with("\"sub\":\"admin\"")),
            ("an unknown claim twice", with("\"x\":1,\"x\":2")),
            ("an unknown claim twice within another", with("\"x\":{\"y\":1,\"y\":1}")),
            ("jti twice", with("\"jti\":\"a\",\"jti\":\"b\"")),
            ("a float nbf", with("\"nbf\":0.5")),
            ("a float iat", good.replacen(&format!("\"iat\":{now}"), &format!("\"iat\":{now}.5"), 1)),
            ("nested claims", json!({"claims": serde_json::from_str::<Value>(&good).unwrap()}).to_string()),
            ("a token in a token", serde_json::to_string(&signed(HEADER, &good, KEY)).unwrap()),
            ("deep nesting", with(&deep)),
            ("trailing data", format!("{good}{good}")),
            ("a comment", format!("/**/{good}")),
            ("a byte order mark", format!("\u{feff}{good}")),
            ("a list of claims", format!("[{good}]")),
            ("a role in other letters", set("\"role\":\"admin\"", "\"role\":\"adm\u{131}n\"")),
            ("a role that ends in a NUL", set("\"role\":\"admin\"", "\"role\":\"admin\\u0000\"")),
            ("an unpaired surrogate", set("\"sub\":\"admin\"", "\"sub\":\"\\ud800\"")),
        ] {
            assert_eq!(status(&fixture, &signed(HEADER, &text, KEY)).await, 401, "{what}");
        }
        let of = |header: &[u8], claims: &[u8]| {
            let text = format!("{}.{}", encode(header), encode(claims));
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, KEY);
            format!("{text}.{}", encode(aws_lc_rs::hmac::sign(&key, text.as_bytes())))
        };
        for (header, claims) in [
            (b"\xff\xfe".as_slice(), good.as_bytes()),
            (b"{\"alg\":\"HS256\",\"typ\":\"\xff\"}", good.as_bytes()),
            (HEADER.as_bytes(), b"\xff\xfe"),
            (HEADER.as_bytes(), b"{\"sub\":\"\xc3\x28\"}"),
            (b"{\"alg\":\"none\",\"alg\":\"HS256\"}", good.as_bytes()),
            (b"{\"alg\":\"HS256\",\"alg\":\"HS256\"}", good.as_bytes()),
            (b"{\"alg\":\"HS256\"}{}", good.as_bytes()),
            (b"{\"alg\":\"RS256\",\"typ\":\"JWT\"}", good.as_bytes()),
            (b"{\"alg\":\"ES256\"}", good.as_bytes()),
            (b"{\"alg\":\"EdDSA\"}", good.as_bytes()),
            (b"{\"alg\":\"dir\",\"enc\":\"A256GCM\"}", good.as_bytes()),
            (b"{\"alg\":\"HS256 \"}", good.as_bytes()),
            (b"{\"alg\":\"nOnE\"}", good.as_bytes()),
        ] {
            assert_eq!(status(&fixture, &of(header, claims)).await, 401, "{}", String::from_utf8_lossy(header));
        }
        let token = signed(HEADER, &good, KEY);
        for odd in [
            token.replacen('.', ". ", 1),
            token.replacen('.', "\t.", 1),
            format!("{} {}", &token[..10], &token[10..]),
            format!("{token}\u{b}"),
            token.replace('_', "/").replace('-', "+") + "==",
            format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(&good)),
            format!("{}.{}.{}", encode(br#"{"alg":"none"}"#), encode(&good), token.rsplit_once('.').unwrap().1),
        ] {
            let request = Request::get("/v1/clusters").header("authorization", format!("Bearer {odd}").as_bytes());
            let Ok(request) = request.body(Body::empty()) else { continue };
            assert_eq!(fixture.send(request).await.status, 401, "{odd:?}");
        }
        // Keys that a token brings, or says where to fetch, are not looked at: its signature is judged by ours.
        let forged = json!({"kty": "oct", "k": encode([9; 32]), "alg": "HS256"});
        for extra in [
            json!({"jwk": forged}),
            json!({"jku": "http://127.0.0.1:1/keys"}),
            json!({"x5u": "http://127.0.0.1:1/cert"}),
            json!({"x5c": ["MIIB"]}),
            json!({"kid": "' OR 1=1 --"}),
        ] {
            let mut header: Value = serde_json::from_str(HEADER).unwrap();
            header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            assert_eq!(status(&fixture, &signed(&header.to_string(), &good, &[9; 32])).await, 401, "{extra}");
        }
        // What we do not know of, once, changes nothing (RFC 7519 §4).
        assert_eq!(status(&fixture, &signed(HEADER, &with("\"x\":[\"a\",{\"y\":1}]"), KEY)).await, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutilation_of_a_token_is_let_in_or_breaks_anything() {
    database::sqlite(|store| async {
        let fixture = Fixture::over(store).await;
        let good = signed(HEADER, &claims(&fixture).to_string(), KEY);
        let bytes = good.as_bytes();
        for at in 0..bytes.len() {
            let cut = &good[..at];
            assert_eq!(status(&fixture, cut).await, 401, "cut at {at}");
            let mut other = bytes.to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            // The last character of the tag has bits to spare, which a strict decoder wants to be zero.
            assert_eq!(status(&fixture, &other).await, 401, "changed at {at}");
        }
        let (head, tail) = good.rsplit_once('.').unwrap();
        for odd in [
            format!("{good}."),
            format!(".{good}"),
            format!("{good}="),
            format!("{good}A"),
            format!("{head}."),
            format!("{head}..{tail}"),
            format!("{head}.{tail}.{tail}"),
            good.replace('.', ".."),
            good.replace('.', "/"),
            good.to_uppercase(),
            "a.b.c".into(),
            "..".into(),
            ".".into(),
            "x".repeat(5000),
            format!("{}.{}.{}", encode("{}"), encode("{}"), encode("")),
            format!("{good} {good}"),
            "null".into(),
        ] {
            assert_eq!(status(&fixture, &odd).await, 401, "{odd}");
        }
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "bearer",
            "Basic YTpi",
            &format!("Token {good}"),
            &good,
            &format!("Bearer{good}"),
            "Bearer \u{e9}",
        ] {
            let request =
                Request::get("/v1/clusters").header("authorization", header.as_bytes()).body(Body::empty()).unwrap();
            assert_eq!(fixture.send(request).await.status, 401, "{header:?}");
        }
        let twice = Request::get("/v1/clusters")
            .header("authorization", format!("Bearer {good}"))
            .header("authorization", format!("Bearer {good}"));
        assert_eq!(fixture.send(twice.body(Body::empty()).unwrap()).await.status, 401, "two headers");
        let lower =
            Request::get("/v1/clusters").header("authorization", format!("bearer {good}")).body(Body::empty()).unwrap();
        assert_eq!(fixture.send(lower).await.status, 200, "the scheme's case does not count");
    })
    .await;
}

#[test]
fn a_second_key_is_accepted_and_the_first_signs() {
    let keys =
        |bytes: &[u8]| Tokens::new(&bytes.iter().map(|byte| SecretSlice::from(vec![*byte; 32])).collect::<Vec<_>>());
    let actor = Actor { subject: "a".into(), role: Role::Admin, token_id: None };
    let now: jiff::Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    let end = now + SignedDuration::from_mins(5);
    let (old, both, new) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
    let of_old = old.sign(&actor, now, end).unwrap();
    assert!(both.verify(&of_old, now).is_ok() && new.verify(&of_old, now).is_err());
    let of_both = both.sign(&actor, now, end).unwrap();
    assert!(new.verify(&of_both, now).is_ok() && old.verify(&of_both, now).is_err());
    // Without a key id every key is tried.
    let claims = json!({"iss": "kubeop", "sub": "a", "role": "admin", "iat": now.as_second(), "exp": end.as_second()});
    assert!(both.verify(&signed(HEADER, &claims.to_string(), &[1; 32]), now).is_ok());
}

both! {
    async fn a_token_that_kubeop_token_made_is_revoked_by_an_admin_and_by_nobody_else(fixture) {
        let world = World::new(&fixture).await;
        let jti = fixture.absent();
        let now = fixture.clock.now();
        let actor = Actor { subject: "lost".into(), role: Role::Admin, token_id: Some(jti.clone()) };
        let lost = fixture.manager.tokens.sign(&actor, now, now + SignedDuration::from_hours(24)).unwrap();
        assert_eq!(status(&fixture, &lost).await, StatusCode::OK);
        let path = format!("/v1/jwt/{jti}");
        let tenant = fixture.token(world.tenant());
        assert_eq!(fixture.call("DELETE", &path, Some(&tenant), None).await.status, StatusCode::NOT_FOUND);
        assert_eq!(status(&fixture, &lost).await, StatusCode::OK);
        for odd in ["not-an-id", &jti.to_uppercase(), &jti.replace('-', "")] {
            fixture.admin("DELETE", &format!("/v1/jwt/{odd}"), &json!(null), 404).await;
        }
        fixture.admin("DELETE", &path, &json!(null), 204).await;
        assert_eq!(status(&fixture, &lost).await, StatusCode::UNAUTHORIZED);
        fixture.admin("DELETE", &path, &json!(null), 204).await;
        let record = fixture.admin("GET", &format!("/v1/audit?object_id={jti}"), &json!(null), 200).await;
        assert_eq!((&record[0]["action"], record.as_array().unwrap().len()), (&json!("revoke"), 2));
        // It is not forgotten before the token has ended.
        fixture.clock.set(now + SignedDuration::from_hours(23));
        credentials::round(&fixture.manager).await.unwrap();
        assert_eq!(status(&fixture, &lost).await, StatusCode::UNAUTHORIZED);
    }

    async fn what_a_revoked_token_issued_ends_with_it(fixture) {
        let world = World::new(&fixture).await;
        let jti = fixture.absent();
        let now = fixture.clock.now();
        let actor = Actor { subject: "lost".into(), role: Role::Admin, token_id: Some(jti.clone()) };
        let root = fixture.manager.tokens.sign(&actor, now, now + SignedDuration::from_hours(24)).unwrap();
        let issue = async |by: &str, path: &str, body: Value| {
            let answer = fixture.call("POST", path, Some(by), Some(&body.to_string())).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            answer.body["token"].as_str().unwrap().to_owned()
        };
        let tenant = issue(&root, "/v1/jwt/tenant", json!({"TenantID": world.mine.tenant})).await;
        let project = issue(&tenant, "/v1/jwt/project", json!({"ProjectID": world.mine.project})).await;
        let admin = fixture.token(Role::Admin);
        let other = issue(&admin, "/v1/jwt/tenant", json!({"TenantID": world.mine.tenant})).await;
        let get = async |token: &str| fixture.call("GET", "/v1/projects", Some(token), None).await.status;
        for token in [&root, &tenant, &project, &other] {
            assert_eq!(get(token).await, StatusCode::OK);
        }
        fixture.admin("DELETE", &format!("/v1/jwt/{jti}"), &json!(null), 204).await;
        for token in [&root, &tenant, &project] {
            assert_eq!(get(token).await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(get(&other).await, StatusCode::OK);
        let record = fixture.admin("GET", &format!("/v1/audit?object_id={jti}"), &json!(null), 200).await;
        assert_eq!(record[0]["detail"], "with 2 tokens that it issued");
    }

    async fn a_project_token_that_claims_another_tenant_is_401(fixture) {
        let world = World::new(&fixture).await;
        let now = fixture.clock.now().as_second();
        let of = |tenant: &str| {
            let claims = json!({
                "iss": "kubeop", "sub": "p", "role": "project", "iat": now, "exp": now + 60,
                "project_id": world.mine.project, "tenant_id": tenant,
            });
            signed(HEADER, &claims.to_string(), KEY)
        };
        let get = async |token: &str| fixture.call("GET", "/v1/projects", Some(token), None).await;
        assert_eq!(get(&of(&world.mine.tenant)).await.status, StatusCode::OK);
        assert_eq!(get(&of(&world.theirs.tenant)).await.error(), "the token's project is not its tenant's");
        let issued = fixture.admin("POST", "/v1/jwt/project", &json!({"ProjectID": world.mine.project}), 200).await;
        let token = issued["token"].as_str().unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["tenant_id"], json!(world.mine.tenant), "those that we issue tell the tenant");
        assert_eq!(get(token).await.status, StatusCode::OK);
    }

    async fn a_token_ends_with_its_revocation_its_project_or_its_tenant_everywhere(fixture) {
        let world = World::new(&fixture).await;
        let issue = async |path: &str, body: Value| {
            let token = fixture.admin("POST", path, &body, 200).await;
            (token["token"].as_str().unwrap().to_owned(), token["jti"].as_str().unwrap().to_owned())
        };
        let (project, _) = issue("/v1/jwt/project", json!({"ProjectID": world.theirs.project})).await;
        let (tenant, _) = issue("/v1/jwt/tenant", json!({"TenantID": world.theirs.tenant})).await;
        let (revoked, jti) = issue("/v1/jwt/tenant", json!({"TenantID": world.theirs.tenant})).await;
        let get = async |token: &str| fixture.call("GET", "/v1/projects", Some(token), None).await;
        for token in [&project, &tenant, &revoked] {
            assert_eq!(get(token).await.status, StatusCode::OK);
        }
        fixture.admin("DELETE", &format!("/v1/jwt/{jti}"), &json!(null), 204).await;
        assert_eq!(get(&revoked).await.error(), "the token was revoked");
        assert_eq!(get(&tenant).await.status, StatusCode::OK, "another token of the same tenant lives on");
        for path in [format!("apps/{}", world.theirs.app), format!("projects/{}", world.theirs.project), format!("projects/{}", world.theirs.sibling)] {
            fixture.admin("DELETE", &format!("/v1/{path}"), &json!(null), 204).await;
        }
        assert_eq!(get(&project).await.error(), "the token's project does not exist any more");
        assert_eq!(get(&tenant).await.status, StatusCode::OK);
        fixture.admin("DELETE", &format!("/v1/tenants/{}", world.theirs.tenant), &json!(null), 204).await;
        let id = TenantId::parse(&world.theirs.tenant).unwrap();
        let unissued = fixture.token(Role::Tenant(id));
        let never = [fixture.token(Role::Tenant(TenantId(fixture.manager.ids.next()))), fixture.token(Role::Project(ProjectId(fixture.manager.ids.next())))];
        for (method, pattern) in operations().into_iter().filter(|(_, pattern)| !is_open(pattern)) {
            let path = pattern.replace("{id}", &world.theirs.tenant);
            for token in [&project, &tenant, &revoked, &unissued, &never[0], &never[1]] {
                let answer = fixture.call(&method, &path, Some(token), Some("{}")).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {}", answer.body);
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
            }
        }
    }
}
