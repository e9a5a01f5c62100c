//! The whole tour, twice: a second one in the same directory shows the same.

use crate::program::{TestDir, run, shell};

#[test]
fn tour_runs_to_its_end_twice() {
    let dir = TestDir::new("tour");
    let db = dir.path("the db");
    for _ in 0..2 {
        let tour = run("tour", &db, &[]);
        assert_eq!((tour.status, tour.errors.as_str()), (Some(0), ""), "{}", tour.out);
        for expected in [
            "112,320 cities",
            "Lisbon/PT/2267057={\"region\":\"Lisbon\",\"population\":517802,",
            "JP/0002592413/1853909=Osaka/JP/1853909\n",
            "  PT/0000517802/2267057=Lisbon/PT/2267057\n",
            "  PT/0000518802/2267057=Lisbon/PT/2267057\n",
            "without a gap, and no half batch.",
            "Go on in the shell:",
            "the db' --keyspace cities\n",
            "the db' --keyspace by-population --prefix",
        ] {
            assert!(tour.out.contains(expected), "{expected:?} is not in:\n{}", tour.out);
        }
    }
    let largest = run(
        "scan",
        &db,
        &["--keyspace", "by-population", "--prefix", "PT/", "--reverse", "--limit", "1"],
    );
    assert_eq!(largest.out, "PT/0000517802/2267057=Lisbon/PT/2267057\n");
}

/// It went into any database, and left 345,000 entries in three keyspaces of its own there.
#[test]
fn tour_writes_into_no_database_of_somebody_else() {
    let dir = TestDir::new("tour-refused");
    let (entries, keyspaces) = (dir.path("entries"), dir.path("keyspaces"));
    shell(&entries, &[], "put a 1");
    shell(&keyspaces, &["--keyspace", "users"], "");
    for db in [entries, keyspaces] {
        let before = run("scan", &db, &[]);
        let refused = run("tour", &db, &[]);
        let expected = format!(
            "error: the database in {} is not one of the tour: name another directory\n",
            db.display()
        );
        assert_eq!((refused.status, refused.out.as_str()), (Some(1), ""));
        assert_eq!(refused.errors, expected);
        assert_eq!(run("scan", &db, &[]), before);
        assert!(!run("stats", &db, &[]).out.contains("cities"));
    }
}
