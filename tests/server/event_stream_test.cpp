#include "server/event_stream.h"

#include <gtest/gtest.h>

#include "server/fake_worker.h"

namespace mochi::server {
namespace {

Json step(int number) {
  return {
      {"type", "step"},
      {"data",
       {{"step", number}, {"progress", 10 * number}, {"seconds_left", 4}, {"evaluated", true}}}};
}

TEST(EventStream, TellsAllThatHappens) {
  TestServer server;
  server.create();
  const std::string id = server.create();
  EventStream stream(server.store, server.queue, id, 0);
  EXPECT_EQ(stream.take(),
            "id: 1\nevent: state\ndata: {\"status\":\"queued\",\"progress\":0,\"error\":null}\n\n"
            "event: queue\ndata: {\"queue_position\": 0}\n\n");
  EXPECT_EQ(stream.take(), "");
  server.worker->answer({{"type", "failed"}, {"code", "x"}, {"message", "y"}});
  expect_contains(stream.take(), "\"status\":\"in_progress\"");
  server.worker->answer(step(1));
  server.worker->answer(step(2));
  server.worker->answer({{"type", "preview"}, {"data", {{"step", 1}}}});
  server.worker->answer({{"type", "preview"}, {"data", {{"step", 2}}}});
  const std::string steps = stream.take();
  expect_contains(steps, "id: 3\nevent: step\n");
  expect_contains(steps, "id: 4\nevent: step\n");
  // The latest preview alone.
  expect_contains(steps, "\n\nevent: preview\ndata: {\"step\":2}\n\n");
  EXPECT_EQ(steps.find("{\"step\":1}"), std::string::npos);
  EXPECT_FALSE(stream.has_ended());
  server.complete(id);
  expect_contains(stream.take(), "\"status\":\"completed\"");
  EXPECT_TRUE(stream.has_ended());
}

TEST(EventStream, MissesNothingAfterItsLastEvent) {
  TestServer server;
  const std::string id = server.create();
  for (int i = 1; i <= 300; ++i) server.worker->answer(step(i));
  EventStream stream(server.store, server.queue, id, 250);
  const std::string text = stream.take();
  EXPECT_EQ(text.substr(0, 8), "id: 251\n");
  expect_contains(text, "id: 302\n");  // two states and 300 steps
}

TEST(EventStream, EndsAfterTheLastEventWasSeenBefore) {
  TestServer server;
  const std::string id = server.create();
  server.complete(id);
  EventStream stream(server.store, server.queue, id, 3);
  EXPECT_EQ(stream.take(), "");
  EXPECT_TRUE(stream.has_ended());
}

TEST(EventStream, TellsThatTheVideoWasDeleted) {
  TestServer server;
  server.create();
  const std::string id = server.create();
  EventStream stream(server.store, server.queue, id, 1);
  int num_wakes = 0;
  stream.subscribe([&num_wakes] { ++num_wakes; });
  server.call("DELETE", "/v1/videos/" + id);
  EXPECT_GE(num_wakes, 1);
  EXPECT_EQ(stream.take(), "event: deleted\ndata: {}\n\n");
  EXPECT_TRUE(stream.has_ended());
}

}  // namespace
}  // namespace mochi::server
