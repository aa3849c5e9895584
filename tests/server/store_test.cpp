#include "server/store.h"

#include <gtest/gtest.h>

#include "base/temp_folder.h"
#include "server/video_queue.h"

namespace mochi::server {
namespace {

Video video(const std::string& id, const std::string& owner = "") {
  Video made;
  made.id = id;
  made.owner = owner;
  made.created_at = 1;
  made.request = "{}";
  made.fields = "{}";
  return made;
}

void add(Store& store, const Video& made) {
  store.add(made, std::nullopt, state_event(VideoStatus::kQueued));
}

std::vector<std::string> ids_of(const std::vector<Video>& videos) {
  std::vector<std::string> ids;
  for (const Video& it : videos) ids.push_back(it.id);
  return ids;
}

using Ids = std::vector<std::string>;

TEST(Store, KeepsVideosAndEvents) {
  const TempFolder folder;
  {
    Store store(folder / "a.db");
    add(store, video("a", "ann"));
    store.start("a", "{1}");
    store.add_event("a", "step", "{2}");
    store.mark_failed("a", 7, {.code = "c", .message = "m"}, "{3}");
  }
  Store store(folder / "a.db");
  const std::optional<Video> found = store.find("a");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->owner, "ann");
  EXPECT_EQ(found->status, VideoStatus::kFailed);
  EXPECT_EQ(found->completed_at, 7);
  ASSERT_TRUE(found->error);
  EXPECT_EQ(found->error->code, "c");
  const std::vector<VideoEvent> events = store.events_after("a", 1, 2);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].number, 2);
  EXPECT_EQ(events[1].data, "{2}");
}

TEST(Store, ListsPagesOfOneOwner) {
  const TempFolder folder;
  Store store(folder / "a.db");
  for (const char* id : {"a", "b", "c", "d"}) add(store, video(id));
  add(store, video("x", "ann"));
  VideoPage page = store.list({.owner = "", .after = "", .limit = 3});
  EXPECT_EQ(ids_of(page.videos), (Ids{"d", "c", "b"}));
  EXPECT_TRUE(page.has_more);
  page = store.list({.owner = "", .after = "b", .limit = 3});
  EXPECT_EQ(ids_of(page.videos), (Ids{"a"}));
  EXPECT_FALSE(page.has_more);
  page = store.list({.owner = "", .after = "b", .limit = 3, .is_ascending = true});
  EXPECT_EQ(ids_of(page.videos), (Ids{"c", "d"}));
  EXPECT_THROW(store.list({.owner = "", .after = "x"}), Error);
}

TEST(Store, KnowsTheQueue) {
  const TempFolder folder;
  Store store(folder / "a.db");
  for (const char* id : {"a", "b", "c"}) add(store, video(id));
  store.start("a", "{}");
  EXPECT_EQ(ids_of(store.queued(9)), (Ids{"b", "c"}));
  EXPECT_EQ(store.queued_ids(), (Ids{"b", "c"}));
  EXPECT_EQ(ids_of(store.interrupted()), (Ids{"a"}));
  store.requeue("a", 1, "{}");
  EXPECT_EQ(ids_of(store.queued(9)), (Ids{"a", "b", "c"}));
  EXPECT_EQ(store.find("a").value_or(Video{}).num_crashes, 1);
}

TEST(Store, RemovesAVideoWithItsEvents) {
  const TempFolder folder;
  Store store(folder / "a.db");
  add(store, video("a"));
  store.remove("a");
  EXPECT_FALSE(store.find("a"));
  store.add_event("a", "step", "{}");  // of a worker that does not know it yet
  EXPECT_TRUE(store.events_after("a", 0, 9).empty());
}

TEST(Store, FindsARepeatedRequestOfTheSameOwner) {
  const TempFolder folder;
  Store store(folder / "a.db");
  store.add(video("a", "ann"), Idempotency{.key = "k", .body_digest = "d"}, "{}");
  const std::optional<Store::Repeated> found = store.find_repeated("ann", "k");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->video.id, "a");
  EXPECT_EQ(found->body_digest, "d");
  EXPECT_FALSE(store.find_repeated("bob", "k"));
}

TEST(Store, RefusesADatabaseOfANewerVersion) {
  const TempFolder folder;
  {
    Database database(folder / "a.db");
    database.execute("PRAGMA user_version = 1000");
  }
  expect_contains(message_of<Error>([&] { const Store store(folder / "a.db"); }),
                  "a.db': wanted a database of version 1 or older, found version 1000");
}

TEST(Store, RefusesOtherFiles) {
  const TempFolder folder;
  folder.write("a.db", std::string(5000, 'x'));
  expect_contains(message_of<Error>([&] { const Store store(folder / "a.db"); }),
                  "a.db': file is not a database");
  {
    Database database(folder / "b.db");
    database.execute("CREATE TABLE t (x)");
  }
  const std::string before = read_text(folder / "b.db");
  expect_contains(message_of<Error>([&] { const Store store(folder / "b.db"); }),
                  "found another one");
  EXPECT_EQ(read_text(folder / "b.db"), before);
}

TEST(Store, AFullDiskIsAnErrorOfItsOwn) {
  const TempFolder folder;
  Database database(folder / "a.db");
  database.execute("CREATE TABLE t (x); PRAGMA max_page_count = 10");
  Statement insert = database.prepare("INSERT INTO t VALUES (?1)");
  EXPECT_THROW(insert.bind(1, std::string(100'000, 'x')).run(), DatabaseFull);
  insert.bind(1, "small").run();
}

}  // namespace
}  // namespace mochi::server
