#include "server/video_queue.h"

#include <gtest/gtest.h>

#include "server/fake_worker.h"

namespace mochi::server {
namespace {

TEST(VideoQueue, RunsOneVideoAtATimeInOrder) {
  TestServer server;
  const std::string first = server.create();
  const std::string second = server.create();
  ASSERT_EQ(server.worker->sent.size(), 1U);
  EXPECT_EQ(server.worker->sent[0].value("id", ""), first);
  EXPECT_EQ(server.status_of(first), "in_progress");
  EXPECT_EQ(server.get("/v1/videos/" + second).at("queue_position"), 0);
  server.complete(first);
  EXPECT_EQ(server.status_of(first), "completed");
  ASSERT_EQ(server.worker->sent.size(), 2U);
  EXPECT_EQ(server.worker->sent[1].value("id", ""), second);
  EXPECT_EQ(server.status_of(second), "in_progress");
}

TEST(VideoQueue, TellsTheWorkerThePromptsThatWait) {
  TestServer server;
  server.create(R"({"prompt": "one"})");
  server.create(R"({"prompt": "two", "negative_prompt": "bad"})");
  server.create(R"({"prompt": "two"})");
  server.worker->answer({{"type", "failed"}, {"code", "x"}, {"message", "y"}});
  EXPECT_EQ(server.worker->sent[0].at("prompts"), Json::array());
  EXPECT_EQ(server.worker->sent[1].at("prompts"), Json({"two"}));
}

TEST(VideoQueue, ADamagedRecordFailsAlone) {
  TestServer server;
  server.create();
  const std::string damaged = server.create();
  const std::string next = server.create();
  Database(server.folder / "mochi.db")
      .execute("UPDATE videos SET request = '{broken' WHERE id = '" + damaged + "'");
  server.worker->answer({{"type", "failed"}, {"code", "x"}, {"message", "y"}});
  server.queue.tick();
  EXPECT_EQ(server.store.find(damaged).value_or(Video{}).status, VideoStatus::kFailed);
  EXPECT_EQ(server.status_of(next), "in_progress");
}

TEST(VideoQueue, KnowsThePlaces) {
  TestServer server;
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(server.create());
  EXPECT_EQ(server.queue.position_of(ids[3]), 2);
  server.call("DELETE", "/v1/videos/" + ids[1]);
  EXPECT_EQ(server.queue.position_of(ids[3]), 1);
  server.complete(ids[0]);
  EXPECT_EQ(server.queue.position_of(ids[3]), 0);
}

TEST(VideoQueue, AFailedVideoSaysWhy) {
  TestServer server;
  const std::string id = server.create();
  server.worker->answer({{"type", "failed"}, {"code", "disk_full"}, {"message", "no space"}});
  const Json video = server.get("/v1/videos/" + id);
  EXPECT_EQ(video.at("status"), "failed");
  EXPECT_EQ(video.at("error"), Json({{"code", "disk_full"}, {"message", "no space"}}));
}

TEST(VideoQueue, AWorkerThatEndsGetsNoVideo) {
  TestServer server;
  server.worker->ends_late = true;
  server.create();
  server.worker->answer({{"type", "failed"}, {"code", "x"}, {"message", "y"}, {"must_end", true}});
  const std::string next = server.create();
  EXPECT_EQ(server.status_of(next), "queued");
  EXPECT_EQ(server.worker->sent.size(), 1U);
  server.worker->end_as("ended (exit code 0)");
  EXPECT_EQ(server.status_of(next), "in_progress");
  EXPECT_EQ(server.worker->sent.back().value("id", ""), next);
}

TEST(VideoQueue, AVideoWhoseWorkerCrashesIsTriedOnceMore) {
  TestServer server;
  const std::string id = server.create();
  server.worker->end_as("was killed by signal 11 (Segmentation fault)");
  EXPECT_EQ(server.status_of(id), "queued");
  // The next attempt begins after a moment.
  server.queue.tick();
  EXPECT_EQ(server.status_of(id), "queued");
}

TEST(VideoQueue, AVideoWhoseWorkerCrashesTwiceFails) {
  TestServer server;
  const std::string id = server.create();
  server.store.requeue(id, 1, state_event(VideoStatus::kQueued));
  server.store.start(id, state_event(VideoStatus::kInProgress));
  server.worker->end_as("was killed by signal 11 (Segmentation fault)");
  const Json video = server.get("/v1/videos/" + id);
  EXPECT_EQ(video.at("status"), "failed");
  EXPECT_EQ(video.at("error").at("code"), "worker_crashed");
  expect_contains(video.at("error").at("message"), "Segmentation fault");
}

TEST(VideoQueue, DeletingARunningVideoStopsIt) {
  TestServer server;
  const std::string id = server.create();
  std::filesystem::create_directories(server.queue.folder_of(id));
  EXPECT_EQ(server.call("DELETE", "/v1/videos/" + id).status, 200);
  EXPECT_EQ(server.call("GET", "/v1/videos/" + id).status, 404);
  EXPECT_EQ(server.worker->sent.back(), Json({{"type", "stop"}}));
  EXPECT_TRUE(std::filesystem::exists(server.queue.folder_of(id)));  // the worker still writes
  const std::string next = server.create();
  EXPECT_EQ(server.status_of(next), "queued");
  server.worker->answer({{"type", "stopped"}});
  EXPECT_FALSE(std::filesystem::exists(server.queue.folder_of(id)));
  EXPECT_EQ(server.status_of(next), "in_progress");
}

TEST(VideoQueue, AVideoThatEndedWhileItWasDeletedLeavesNothing) {
  TestServer server;
  const std::string id = server.create();
  server.call("DELETE", "/v1/videos/" + id);
  server.complete(id);
  EXPECT_EQ(server.call("GET", "/v1/videos/" + id).status, 404);
  EXPECT_FALSE(std::filesystem::exists(server.queue.folder_of(id)));
}

TEST(VideoQueue, RefusesWhatIsBeyondItsLength) {
  TestServer server({.max_queue = 2, .max_queue_per_key = 2});
  server.create();  // runs
  server.create();
  server.create();
  const Response refusal = server.call("POST", "/v1/videos", R"({"prompt": "x"})");
  EXPECT_EQ(refusal.status, 429);
  EXPECT_EQ(Json::parse(refusal.body).at("error").at("code"), "queue_full");
}

TEST(VideoQueue, KeepsAShareForEachKey) {
  TestServer server({.max_queue = 4, .max_queue_per_key = 1},
                    "ann: aaaaaaaaaaaaaaaa\nbob: bbbbbbbbbbbbbbbb\n");
  const auto create = [&server](const char* key) {
    return server.call("POST", "/v1/videos", R"({"prompt": "x"})",
                       {{"authorization", std::string("Bearer ") + key}});
  };
  EXPECT_EQ(create("aaaaaaaaaaaaaaaa").status, 200);  // runs
  EXPECT_EQ(create("aaaaaaaaaaaaaaaa").status, 200);
  const Response refusal = create("aaaaaaaaaaaaaaaa");
  EXPECT_EQ(refusal.status, 429);
  EXPECT_EQ(Json::parse(refusal.body).at("error").at("code"), "key_queue_full");
  EXPECT_EQ(create("bbbbbbbbbbbbbbbb").status, 200);
}

TEST(VideoQueue, AtTheEndTheRunningVideoWaitsForTheNextStart) {
  TestServer server;
  const std::string id = server.create();
  server.queue.stop();
  EXPECT_EQ(server.worker->sent.back(), Json({{"type", "stop"}}));
  EXPECT_FALSE(server.queue.has_stopped());
  EXPECT_EQ(server.call("POST", "/v1/videos", R"({"prompt": "x"})").status, 503);
  EXPECT_EQ(server.call("GET", "/readyz").status, 503);
  server.worker->answer({{"type", "stopped"}});
  EXPECT_TRUE(server.queue.has_stopped());
  EXPECT_EQ(server.status_of(id), "queued");
}

TEST(VideoQueue, AfterAKillTheRunningVideoIsTheNext) {
  TestServer server;
  const std::string first = server.create();
  const std::string second = server.create();
  std::filesystem::create_directories(server.queue.folder_of(first));
  std::filesystem::create_directories(server.queue.folder_of("video_0123456789abcdef01234567"));
  FakeWorker* worker = nullptr;
  VideoQueue queue(
      server.options, server.store, server.metrics,
      [&worker](int /*gpu*/, WorkerEvents events) {
        auto made = std::make_unique<FakeWorker>(std::move(events));
        worker = made.get();
        return made;
      },
      [](std::string_view /*line*/) {});
  queue.tick();
  ASSERT_EQ(worker->sent.size(), 1U);
  EXPECT_EQ(worker->sent[0].value("id", ""), first);
  EXPECT_TRUE(std::filesystem::exists(server.queue.folder_of(first)));
  // It belongs to no video of the database.
  EXPECT_FALSE(std::filesystem::exists(server.queue.folder_of("video_0123456789abcdef01234567")));
}

TEST(VideoQueue, AWorkerThatCannotStartLeavesTheVideoInTheQueue) {
  TestServer server;
  server.worker->fails_to_start = true;
  const std::string id = server.create();
  EXPECT_EQ(server.status_of(id), "queued");
  expect_contains(server.log.back(), "cannot start");
}

TEST(VideoQueue, AWorkerThatLostItsGpuIsNotUsed) {
  TestServer server;
  const std::string first = server.create();
  server.worker->answer({{"type", "ready"}, {"device", "cuda"}});
  server.complete(first);
  const std::string second = server.create();
  server.worker->answer({{"type", "ready"}, {"device", "cpu"}, {"device_note", "no GPU"}});
  EXPECT_EQ(server.status_of(second), "queued");
  EXPECT_FALSE(server.worker->is_running());
}

TEST(VideoQueue, DropsTheOldestVideosBeyondTheSize) {
  TestServer server({.keep = {.max_seconds = 0, .max_bytes = 25}});
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(server.create());
    server.complete(ids.back());
  }
  server.queue.tick();
  EXPECT_EQ(server.call("GET", "/v1/videos/" + ids[0]).status, 404);
  EXPECT_EQ(server.call("GET", "/v1/videos/" + ids[1]).status, 404);
  EXPECT_EQ(server.status_of(ids[2]), "completed");
  EXPECT_EQ(server.status_of(ids[3]), "completed");
  EXPECT_FALSE(std::filesystem::exists(server.queue.folder_of(ids[0])));
}

}  // namespace
}  // namespace mochi::server
