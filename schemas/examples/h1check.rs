fn main() {
    for file in std::env::args().skip(1) {
        let bytes = std::fs::read(&file).unwrap();
        let t = std::time::Instant::now();
        let p = schemas::manifest::parse(&file, &bytes, schemas::manifest::folder_namespace(&file));
        println!("{file}: {} objects {:?}", p.objects.len(), t.elapsed());
        for q in p.problems { println!("  {:?} {:?} {}", q.severity, q.position.map(|p| (p.line, p.column)), q.message); }
    }
}
