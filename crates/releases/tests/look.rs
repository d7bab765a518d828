//! Versions looked up at small servers on this machine.

// Clippy's exception for tests does not reach what the tests of this file share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use volutus_advisories::{Products, Published, Version};
use volutus_catalog::Catalog;
use volutus_model::name::PackageVersion;
use volutus_releases::look::{self, Found, Images, Repository, Request};
use volutus_releases::{Constraints, Credentials, Error, Lines, Web, contents_of_wheel, sha256};

/// One answer: status, headers, body.
type Page = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// What a server has, by path and query, and what it was asked: path and the headers `accept` and `authorization`.
#[derive(Clone, Default)]
struct Server {
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    asked: Arc<Mutex<Vec<(String, String, String)>>>,
    /// The `authorization` without which nothing but tokens is given.
    wants: Option<(String, String)>,
}

impl Server {
    fn put(&self, path: &str, kind: &str, body: impl Into<Vec<u8>>) {
        let page = (200, vec![("content-type", kind.to_owned())], body.into());
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> Response {
        let header = |name: &str| {
            headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        self.asked.lock().unwrap().push((path.to_owned(), header("accept"), header("authorization")));
        if let Some((wanted, challenge)) = &self.wants
            && !path.starts_with("/token")
            && header("authorization") != *wanted
        {
            let headers = [("www-authenticate", challenge.clone())];
            return (StatusCode::UNAUTHORIZED, headers, "who are you?").into_response();
        }
        let Some((status, headers, body)) = self.pages.lock().unwrap().get(path).cloned() else {
            return (StatusCode::NOT_FOUND, "no such page").into_response();
        };
        let mut answer = (StatusCode::from_u16(status).unwrap(), body).into_response();
        for (name, value) in headers {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    }

    /// Serves on a port of its own, and tells where.
    async fn serve(self) -> String {
        async fn any(State(server): State<Server>, request: HttpRequest) -> Response {
            let path = request.uri().path_and_query().unwrap().to_string();
            server.answer(&path, request.headers())
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(any).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }
}

struct Knowledge {
    catalog: Catalog,
    published: Published,
    products: Products,
}

impl Knowledge {
    fn new() -> Self {
        let products = Products::builtin().unwrap();
        let published = Published::builtin(&products).unwrap();
        Self { catalog: Catalog::builtin().unwrap(), published, products }
    }

    fn request(&self, packages: &[&str]) -> Request<'_> {
        Request {
            series: "2026.1".parse().unwrap(),
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            python: Version::parse("3.11", false).unwrap(),
            lines: Lines { catalog: &self.catalog, published: &self.published, products: &self.products },
            constraints: Constraints::default(),
        }
    }
}

fn wheel(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

const JSON: &str = "application/vnd.pypi.simple.v1+json";

fn json_page(files: &[(&str, &str, &str, &str)]) -> String {
    let files = files.iter().map(|(name, url, hash, more)| {
        format!(r#"{{"filename": "{name}", "url": "{url}", "hashes": {{"sha256": "{hash}"}}{more}}}"#)
    });
    let files: Vec<String> = files.collect();
    format!(r#"{{"meta": {{"api-version": "1.1"}}, "name": "x", "files": [{}]}}"#, files.join(","))
}

fn version(found: &Found, name: &str) -> String {
    found.packages[name].version.as_str().to_owned()
}

#[tokio::test]
async fn an_index_of_json_and_of_html() {
    let server = Server::default();
    let nova = wheel(&[("nova/__init__.py", "v = 33\n"), ("nova-33.0.3.dist-info/RECORD", "")]);
    let other = "f".repeat(64);
    server.put("/f/nova.whl", "application/zip", nova.clone());
    server.put(
        "/simple/nova/",
        JSON,
        json_page(&[
            ("nova-34.0.0-py3-none-any.whl", "../../f/34", &other, ""),
            ("nova-33.0.4-py3-none-any.whl", "../../f/4", &other, r#", "yanked": "it eats data""#),
            ("nova-33.0.5-py3-none-any.whl", "../../f/5", &other, r#", "requires-python": ">=3.12""#),
            (
                "nova-33.0.3-py3-none-any.whl",
                "../../f/nova.whl",
                sha256(&nova).as_str(),
                r#", "upload-time": "2026-07-01T08:00:00Z""#,
            ),
            (
                "nova-33.0.3.tar.gz",
                "../../f/nova.tar.gz",
                &other,
                r#", "upload-time": "2026-07-01T08:01:00Z""#,
            ),
        ]),
    );
    let html =
        format!("<html><a href='/f/p.tar.gz#sha256={other}'>openstack_placement-15.0.1.tar.gz</a></html>");
    server.put("/simple/openstack-placement/", "text/html; charset=utf-8", html);
    let asked = server.asked.clone();
    let base = server.serve().await;
    let knowledge = Knowledge::new();
    let request = knowledge.request(&["nova", "openstack_placement"]);
    let found = look::index(&Web::new().unwrap(), &format!("{base}/simple"), &request).await.unwrap();

    assert_eq!(version(&found, "nova"), "33.0.3");
    assert_eq!(version(&found, "openstack-placement"), "15.0.1");
    let locked = &found.packages["nova"];
    assert_eq!(locked.files.len(), 2);
    assert_eq!(locked.contents, Some(contents_of_wheel(&nova).unwrap()));
    assert_eq!(locked.published, Some("2026-07-01T08:00:00Z".parse().unwrap()));
    let notes = found.notes.join("\n");
    for part in ["33.0.5 was not taken: it needs Python >=3.12", "yanked: it eats data", "no wheel"] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    assert!(asked.lock().unwrap()[0].1.starts_with(JSON), "JSON is asked for first");
}

#[tokio::test]
async fn a_constraint_goes_before_the_series() {
    let server = Server::default();
    let hash = "a".repeat(64);
    let page = json_page(&[
        ("oslo.config-9.8.0.tar.gz", "/a", &hash, ""),
        ("oslo_config-9.7.1.tar.gz", "/b", &hash, ""),
    ]);
    server.put("/oslo-config/", JSON, page);
    server.put("/leftpad/", JSON, json_page(&[("leftpad-1.0.tar.gz", "/c", &hash, "")]));
    let base = server.serve().await;
    let (knowledge, web) = (Knowledge::new(), Web::new().unwrap());
    let mut request = knowledge.request(&["oslo.config"]);
    request.constraints = Constraints::parse("oslo.config===9.7.1\n", "it").unwrap();
    let found = look::index(&web, &base, &request).await.unwrap();
    assert_eq!(version(&found, "oslo-config"), "9.7.1");
    let error = look::index(&web, &base, &knowledge.request(&["leftpad"])).await.unwrap_err();
    assert!(matches!(&error, Error::NoLine { package, .. } if package == "leftpad"), "{error}");
}

#[tokio::test]
async fn what_an_index_does_wrong_is_named() {
    let server = Server::default();
    let good = wheel(&[("nova/__init__.py", "")]);
    let page = |hash: &str| json_page(&[("nova-33.0.3-py3-none-any.whl", "/w", hash, "")]);
    server.put("/other-file/nova/", JSON, page(&"0".repeat(64)));
    server.put("/w", "application/zip", good);
    server.put("/junk/nova/", JSON, "{");
    server.put("/older/nova/", JSON, json_page(&[("nova-32.0.0.tar.gz", "/x", &"0".repeat(64), "")]));
    let redirect = (302, vec![("location", "/circle/nova/".to_owned())], Vec::new());
    server.pages.lock().unwrap().insert("/circle/nova/".to_owned(), redirect);
    let base = server.serve().await;
    let (knowledge, web) = (Knowledge::new(), Web::new().unwrap());
    let request = knowledge.request(&["nova"]);
    let error_at =
        async |path: &str| look::index(&web, &format!("{base}{path}"), &request).await.unwrap_err();
    assert!(matches!(error_at("/other-file").await, Error::Hash { .. }));
    assert!(matches!(error_at("/junk").await, Error::Malformed { .. }));
    let error = error_at("/none").await.to_string();
    assert!(
        error.contains("looking up nova") && error.contains("404") && error.contains("no such page"),
        "{error}"
    );
    let error = error_at("/older").await.to_string();
    assert!(error.contains("2026.1 (33.*)") && error.contains("32.0.0"), "{error}");
    assert!(error_at("/circle").await.to_string().contains("redirects"));
    let secret = base.replace("http://", "http://user:secret@");
    let error = look::index(&web, &format!("{secret}/none"), &request).await.unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
    for wrong in ["file:///etc", "nonsense"] {
        assert!(matches!(look::index(&web, wrong, &request).await, Err(Error::Address { .. })), "{wrong}");
    }
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let error = look::index(&web, &address, &request).await.unwrap_err().to_string();
    assert!(error.contains("looking up nova at"), "{error}");
}

#[tokio::test]
async fn an_index_of_html_alone_may_refuse_to_be_asked_for_more() {
    // It answers 406 to whoever asks for JSON too.
    async fn strict(headers: HeaderMap) -> Response {
        if headers["accept"] != "text/html" {
            return StatusCode::NOT_ACCEPTABLE.into_response();
        }
        let page = format!("<a href='n#sha256={}'>nova-33.0.1.tar.gz</a>", "a".repeat(64));
        ([("content-type", "text/html")], page).into_response()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(strict);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let knowledge = Knowledge::new();
    let found = look::index(&Web::new().unwrap(), &base, &knowledge.request(&["nova"])).await.unwrap();
    assert_eq!(version(&found, "nova"), "33.0.1");
}

fn paragraph(package: &str, source: &str, version: &str, digit: &str) -> String {
    format!(
        "Package: {package}\nSource: {source}\nVersion: {version}\nFilename: pool/{package}_{digit}.deb\nSHA256: {}\n\n",
        digit.repeat(64)
    )
}

fn repository(base: &str) -> Repository {
    Repository {
        base: format!("{base}/debian"),
        suite: "stable-gazpacho".to_owned(),
        component: "main".to_owned(),
        architecture: "amd64".to_owned(),
    }
}

#[tokio::test]
async fn a_debian_repository() {
    let server = Server::default();
    let packages = [
        paragraph("nova-common", "nova", "2:33.0.2-1", "1"),
        paragraph("nova-common", "nova", "2:33.0.10-1", "2"),
        paragraph("nova-common", "nova (2:34.0.0)", "2:34.0.0-1", "3"),
        paragraph("nova-common", "nova", "2:33.1.0~rc1-1", "4"),
        paragraph("python3-nova", "nova", "2:33.0.10-1", "5"),
        paragraph("libvirt0", "libvirt", "11.0-1", "6"),
    ]
    .concat();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(packages.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let path = "main/binary-amd64/Packages.gz";
    let release = format!("Suite: x\nSHA256:\n {} {} {path}\n", sha256(&packed), packed.len());
    server.put("/debian/dists/stable-gazpacho/Release", "text/plain", release);
    server.put(&format!("/debian/dists/stable-gazpacho/{path}"), "application/gzip", packed);
    let pages = server.pages.clone();
    let base = server.serve().await;
    let (knowledge, web) = (Knowledge::new(), Web::new().unwrap());
    let request = knowledge.request(&["nova", "libvirt0"]);
    let found = look::debian(&web, &repository(&base), &request).await.unwrap();
    assert_eq!(found.packages.keys().collect::<Vec<_>>(), ["libvirt0", "nova-common", "python3-nova"]);
    assert_eq!(version(&found, "nova-common"), "2:33.0.10-1");
    assert_eq!(found.packages["nova-common"].files[0].sha256.as_str(), "2".repeat(64));
    assert_eq!(found.packages["nova-common"].source.as_deref(), Some("nova"));

    let error = look::debian(&web, &repository(&base), &knowledge.request(&["glance"])).await.unwrap_err();
    assert!(error.to_string().contains("no package and no source"), "{error}");
    let mut other = repository(&base);
    other.component = "contrib".to_owned();
    let error = look::debian(&web, &other, &request).await.unwrap_err();
    assert!(error.to_string().contains("contrib/binary-amd64"), "{error}");
    // What is not what Release says is not read.
    let whole = format!("/debian/dists/stable-gazpacho/{path}");
    pages.lock().unwrap().get_mut(&whole).unwrap().2.push(0);
    assert!(matches!(look::debian(&web, &repository(&base), &request).await, Err(Error::Hash { .. })));
}

fn images(base: &str, tag: Option<&str>) -> Images {
    Images {
        base: base.to_owned(),
        repository: "kolla/{package}".to_owned(),
        tag: tag.map(str::to_owned),
        credentials: None,
    }
}

fn put_manifest(server: &Server, repository: &str, tag: &str, body: &str, said: &str) {
    let headers = vec![("docker-content-digest", format!("sha256:{said}"))];
    let path = format!("/v2/{repository}/manifests/{tag}");
    server.pages.lock().unwrap().insert(path, (200, headers, body.as_bytes().to_vec()));
}

#[tokio::test]
async fn a_registry() {
    let server = Server::default();
    let first = "/v2/kolla/nova-api/tags/list";
    let link = vec![("link", format!("<{first}?last=x>; rel=\"next\""))];
    let body = br#"{"tags": ["32.0.0", "33.0.9", "34.0.0"]}"#.to_vec();
    server.pages.lock().unwrap().insert(first.to_owned(), (200, link, body));
    server.put(&format!("{first}?last=x"), "application/json", r#"{"tags": ["33.0.10", "latest"]}"#);
    server.put(
        "/v2/kolla/keystone-api/tags/list",
        "application/json",
        r#"{"tags": ["2026.1-a", "2026.1-b"]}"#,
    );
    server.put("/v2/kolla/haproxy/tags/list", "application/json", r#"{"tags": ["2026.1-a", "2025.2-a"]}"#);
    for (name, tag) in [("nova-api", "33.0.10"), ("haproxy", "2026.1-a"), ("keystone-api", "2026.1-b")] {
        put_manifest(&server, &format!("kolla/{name}"), tag, tag, sha256(tag.as_bytes()).as_str());
    }
    put_manifest(&server, "kolla/glance-api", "2026.1", "{}", &"0".repeat(64));
    let base = server.serve().await;
    let (knowledge, web) = (Knowledge::new(), Web::new().unwrap());
    let of = async |names: &[&str], tag: Option<&str>| {
        look::registry(&web, &images(&base, tag), &knowledge.request(names)).await
    };
    let found = of(&["nova-api", "haproxy"], None).await.unwrap();
    assert_eq!(version(&found, "kolla/nova-api"), "33.0.10");
    assert_eq!(found.packages["kolla/nova-api"].files[0].sha256, sha256(b"33.0.10"));
    assert_eq!(version(&found, "kolla/haproxy"), "2026.1-a");
    let error = of(&["keystone-api"], None).await.unwrap_err().to_string();
    assert!(error.contains("2026.1-a, 2026.1-b") && error.contains("name the tag"), "{error}");
    let found = of(&["keystone-api"], Some("{series}-b")).await.unwrap();
    assert_eq!(version(&found, "kolla/keystone-api"), "2026.1-b");
    assert!(matches!(of(&["glance-api"], Some("{series}")).await, Err(Error::Hash { .. })));
}

#[tokio::test]
async fn a_registry_that_wants_to_know_who_asks() {
    let mut server = Server::default();
    put_manifest(&server, "kolla/nova-api", "1", "it", sha256(b"it").as_str());
    server.put("/token?service=r&scope=pull", "application/json", r#"{"token": "of-user"}"#);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let challenge = format!("Bearer realm=\"{base}/token\",service=\"r\",scope=\"pull\"");
    server.wants = Some(("Bearer of-user".to_owned(), challenge));
    let asked = server.asked.clone();
    let router = Router::new().fallback(async move |request: HttpRequest| {
        let path = request.uri().path_and_query().unwrap().to_string();
        server.answer(&path, request.headers())
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (knowledge, web) = (Knowledge::new(), Web::new().unwrap());
    let mut images = images(&base, Some("1"));
    images.credentials = Some(Credentials::new("user", "password"));
    let found = look::registry(&web, &images, &knowledge.request(&["nova-api"])).await.unwrap();
    assert_eq!(version(&found, "kolla/nova-api"), "1");
    let asked: Vec<_> =
        asked.lock().unwrap().iter().map(|(path, _, who)| (path.clone(), who.clone())).collect();
    let manifest = "/v2/kolla/nova-api/manifests/1".to_owned();
    assert_eq!(
        asked,
        [
            (manifest.clone(), String::new()),
            ("/token?service=r&scope=pull".to_owned(), "Basic dXNlcjpwYXNzd29yZA==".to_owned()),
            (manifest, "Bearer of-user".to_owned()),
        ]
    );
}

#[test]
fn a_file_of_requirements() {
    let knowledge = Knowledge::new();
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let text = format!(
        "# made by hand\n--index-url https://index.example\nnova==33.0.2 \\\n    --hash=sha256:{a} \\\n    --hash=sha256:{b}\n\
         oslo.config[rst]==9.7.1 ; python_version >= '3' --hash sha256:{a}  # why\n"
    );
    let found = look::requirements(&text, "it", &knowledge.request(&[])).unwrap();
    assert_eq!(found.packages.keys().collect::<Vec<_>>(), ["nova", "oslo-config"]);
    assert_eq!(found.packages["nova"].files.len(), 2);
    let found = look::requirements(&text, "it", &knowledge.request(&["nova"])).unwrap();
    assert_eq!(found.packages["nova"].version, PackageVersion::new("33.0.2"));
    assert_eq!(found.packages.len(), 1);
    let refused = |text: &str, packages: &[&str]| {
        look::requirements(text, "it", &knowledge.request(packages)).unwrap_err().to_string()
    };
    let other = look::requirements(
        &format!("nova==33.0.2;python_version<'3' --hash=sha256:{a}\n{text}"),
        "it",
        &knowledge.request(&[]),
    );
    assert_eq!(other.unwrap().packages["nova"].files.len(), 2);
    assert!(refused(&format!("nova==33.0.2;extra=='x' --hash=sha256:{a}"), &[]).contains("marker"));
    assert!(refused("nova==33.0.2\n", &[]).contains("line 1: it has no --hash"));
    assert!(refused(&format!("\nnova>=33 --hash=sha256:{a}"), &[]).contains("line 2"));
    assert!(refused("nova==33.0.2 --hash=md5:0\n", &[]).contains("SHA-256"));
    assert!(refused(&format!("nova==32.0.0 --hash=sha256:{a}"), &[]).contains("32.0.0"));
    assert!(refused(&text, &["glance"]).contains("glance"));
    assert!(refused("", &[]).contains("no package"));
}

#[test]
fn a_folder_of_wheels() {
    let knowledge = Knowledge::new();
    let folder = tempfile::tempdir().unwrap();
    let nova = wheel(&[("nova/__init__.py", "")]);
    std::fs::write(folder.path().join("nova-33.0.2-py3-none-any.whl"), &nova).unwrap();
    std::fs::write(folder.path().join("oslo_config-9.7.1.tar.gz"), b"source").unwrap();
    std::fs::write(folder.path().join("README"), b"").unwrap();
    let found = look::folder(folder.path(), &knowledge.request(&[])).unwrap();
    assert_eq!(found.packages.keys().collect::<Vec<_>>(), ["nova", "oslo-config"]);
    assert_eq!(found.packages["nova"].contents, Some(contents_of_wheel(&nova).unwrap()));
    assert_eq!(found.packages["oslo-config"].files[0].sha256, sha256(b"source"));
    assert!(found.notes[0].contains("of 1 packages"), "{:?}", found.notes);
    std::fs::write(folder.path().join("oslo_config-9.7.0.tar.gz"), b"source").unwrap();
    let error = look::folder(folder.path(), &knowledge.request(&[])).unwrap_err().to_string();
    assert!(error.contains("9.7.0 and in 9.7.1"), "{error}");
}
