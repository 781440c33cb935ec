//! Which requests of a burst are too many: `limit_req` of a real nginx, as ingress-nginx writes it, and
//! the bound.

use ingress_core::ir::Rate;

use nginx_rig::Nginx;

/// Rates a minute and bursts. At these rates no request is admitted for the time that has passed while
/// the test runs.
const LIMITS: &[(u64, u32)] = &[(1, 0), (1, 1), (1, 5), (1, 40), (2, 9), (3, 25)];
const REQUESTS: usize = 60;

#[test]
fn requests_of_a_burst_are_admitted_as_nginx_admits_them() {
    for (per_minute, burst) in LIMITS {
        let burst_of_nginx = match burst {
            0 => String::new(),
            burst => format!("burst={burst}"),
        };
        let nginx = Nginx::start(&format!(
            "limit_req_zone $host zone=a:1m rate={per_minute}r/m; limit_req_status 429;\n\
             server {{ listen {{other}}; return 204; }}\n\
             server {{ listen {{socket}}; location / {{\n\
             limit_req zone=a {burst_of_nginx} nodelay; proxy_pass http://{{other}}; }} }}"
        ));
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned();
        let answers = nginx.ask(&vec![request; REQUESTS]);
        let expected: Vec<bool> = answers.iter().map(|one| one.status == 204).collect();
        let rate = Rate {
            interval: 60_000_000_000 / per_minute,
            burst: *burst,
        };
        let (mut empty_at, now) = (0, 1_000_000_000);
        let admitted = (0..REQUESTS).map(|_| {
            let next = rate.admit(empty_at, now);
            empty_at = next.unwrap_or(empty_at);
            next.is_some()
        });
        let admitted: Vec<bool> = admitted.collect();
        assert_eq!(admitted, expected, "{per_minute} a minute, burst {burst}");
        let refused = answers.iter().filter(|one| one.status == 429).count();
        assert_eq!(refused, REQUESTS - 1 - *burst as usize);
    }
}
