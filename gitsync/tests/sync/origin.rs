//! Which commit wrote which field.

use schemas::{
    Kind, diff,
    origin::{Origin, Question},
};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_field_is_told_with_the_commit_that_wrote_it_and_its_line() {
    let world = World::new(|repo| {
        two_shops(repo);
        repo.write("namespaces/a/web.yaml", &deployment("web", "web:1", 1));
        repo.commit("Web");
    })
    .await;
    let web = key(Kind::Deployment, "a", "web");
    let ask = |since: Option<&store::DesiredRow>, row: &store::DesiredRow| Question {
        key: web.clone(),
        file: row.file.clone(),
        commit: row.commit.clone(),
        since: since.map(|since| since.commit.clone()),
        fields: since.map_or_else(Vec::new, |since| diff::fields(&since.content, &row.content)),
    };
    let first = world.look().await.rows.get(&web).expect("declared").clone();

    // One sync takes three commits over; one of them is about another file, and one a merge.
    let repo = &world.repo;
    repo.git(&["checkout", "-qb", "side"]);
    repo.write("namespaces/a/web.yaml", &deployment("web", "web:2", 1));
    let image = repo.commit("A newer image");
    repo.git(&["checkout", "-q", "main"]);
    repo.write("namespaces/a/other.yaml", &config("other", "1"));
    repo.commit("Something else");
    repo.git(&["merge", "-q", "--no-ff", "-m", "Merge the side", "side"]);
    repo.write(
        "namespaces/a/web.yaml",
        &format!("# More\n{}", deployment("web", "web:2", 3)),
    );
    let replicas = repo.commit("More of it\n\nIt is busy.");
    repo.write("namespaces/a/other.yaml", &config("other", "2"));
    repo.commit("Something else again");
    let second = world.look().await.rows.get(&web).expect("declared").clone();

    let asked = vec![ask(None, &first), ask(Some(&first), &second)];
    let fields: Vec<String> = asked[1].fields.iter().map(|field| field.path.clone()).collect();
    assert_eq!(fields, ["spec.replicas", "spec.template.spec.containers[main].image"]);
    let origins = world.sync.origins(asked.clone()).await.expect("origins");
    let subject = |origin: &Origin| origin.by.as_ref().map(|by| by.subject.clone()).unwrap_or_default();
    assert_eq!(subject(&origins[0]), "Web");
    assert_eq!(subject(&origins[1]), "More of it");
    let text = std::fs::read_to_string(repo.dir.join("namespaces/a/web.yaml")).expect("there");
    for (field, commit, word) in [(0, &replicas, "replicas:"), (1, &image, "image:")] {
        let field = &origins[1].fields[field];
        let by = field.by.as_ref().expect("known");
        assert_eq!(&by.commit, commit, "{by:?}");
        assert!(by.author.contains('<'), "{by:?}");
        let line = text.lines().position(|line| line.contains(word)).expect("there") + 1;
        assert_eq!(field.line, u32::try_from(line).ok(), "{word}");
    }

    // A commit that the repository has lost is not told, and is no error.
    let mut lost = asked[1].clone();
    lost.commit = "0123456789012345678901234567890123456789".into();
    let origins = world.sync.origins(vec![lost]).await.expect("origins");
    assert_eq!(origins[0].by, None);
    assert_eq!(origins[0].fields.len(), 2);
}
