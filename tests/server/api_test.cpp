#include "server/api.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "job/request.h"
#include "server/fake_worker.h"
#include "server/page.h"

namespace mochi::server {
namespace {

Json error_of(const Response& response) { return Json::parse(response.body).at("error"); }

TEST(Api, OpenapiDescribesEveryRouteAndNoOther) {
  const std::optional<PageFile> file = find_page_file("openapi.json");
  ASSERT_TRUE(file);
  const Json openapi = Json::parse(file->content);
  std::set<std::string> described;
  for (const auto& [path, methods] : openapi.at("paths").items()) {
    for (const auto& [method, operation] : methods.items()) {
      if (method == "parameters" || method == "head") continue;
      std::string name = method + " " + path;
      std::ranges::transform(name.substr(0, method.size()), name.begin(),
                             [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      described.insert(name);
    }
  }
  std::set<std::string> served;
  for (const RouteName& route : Api::list_routes()) {
    if (route.path == "/{file}") continue;  // the page's files, of which this is one
    served.insert(std::string(route.method) + " " + std::string(route.path));
  }
  served.insert("GET /openapi.json");
  EXPECT_EQ(described, served);
}

TEST(Api, OpenapiDescribesEveryFieldOfARequest) {
  const std::optional<PageFile> file = find_page_file("openapi.json");
  ASSERT_TRUE(file);
  const Json openapi = Json::parse(file->content);
  std::set<std::string> described;
  for (const auto& [name, schema] :
       openapi.at("components").at("schemas").at("CreateVideo").at("properties").items()) {
    described.insert(name);
  }
  std::set<std::string> accepted{"model",          "seconds", "size", "num_inference_steps",
                                 "guidance_scale", "lora"};
  const job::Request request;
  job::visit_request(request, [&](const job::Field& field, const auto&, auto) {
    if (field.name != "noise" && field.name != "chipmunk_config") accepted.emplace(field.name);
  });
  EXPECT_EQ(described, accepted);
}

TEST(Api, AnswersAddressesThatDoNotExist) {
  TestServer server;
  EXPECT_EQ(server.call("GET", "/v2").status, 404);
  EXPECT_EQ(server.call("GET", "/v1/videos/none").status, 404);
  EXPECT_EQ(server.call("GET", "/v1/videos/video_0123456789abcdef01234567/more").status, 404);
  const Response refusal = server.call("PATCH", "/v1/videos");
  EXPECT_EQ(refusal.status, 405);
  EXPECT_TRUE(std::ranges::count(refusal.headers, Header{"allow", "GET, HEAD, POST"}));
}

TEST(Api, RefusesPagesOfOtherSites) {
  TestServer server;
  EXPECT_EQ(server.call("GET", "/v1/videos", "", {{"origin", "http://evil.example"}}).status, 403);
  EXPECT_EQ(server.call("GET", "/v1/videos", "", {{"origin", "http://127.0.0.1:8188"}}).status,
            200);
  EXPECT_EQ(server.call("GET", "/v1/videos", "", {{"origin", "null"}}).status, 403);
  const auto from = [&server](const char* host) {
    return server.api.answer({.method = "GET",
                              .target = "/v1/videos",
                              .headers = {{"host", host}},
                              .body = "",
                              .id = ""});
  };
  for (const char* host : {"evil.example:8188", "a:b:c", "[evil:com]", "..."}) {
    EXPECT_EQ(from(host).status, 403) << host;
  }
  for (const char* host : {"localhost:8188", "[::1]:8188", "127.0.0.1", "192.168.1.2:80"}) {
    EXPECT_EQ(from(host).status, 200) << host;
  }
  EXPECT_EQ(server.call("GET", "/v1/videos", "", {{"host", "localhost"}}).status, 400);  // two
  EXPECT_EQ(from("").status, 403);
}

TEST(Api, WantsAKeyForAllButThePage) {
  TestServer server({}, "ann: aaaaaaaaaaaaaaaa\nbob: bbbbbbbbbbbbbbbb\n");
  const std::vector<Header> ann{{"authorization", "Bearer aaaaaaaaaaaaaaaa"}};
  const std::vector<Header> bob{{"authorization", "Bearer bbbbbbbbbbbbbbbb"}};
  for (const char* path : {"/", "/healthz", "/readyz", "/openapi.json"}) {
    EXPECT_EQ(server.call("GET", path).status, 200) << path;
  }
  for (const char* path : {"/v1/videos", "/v1/models", "/v1/status", "/metrics"}) {
    const Response refusal = server.call("GET", path);
    EXPECT_EQ(refusal.status, 401) << path;
    EXPECT_EQ(error_of(refusal).at("code"), "invalid_api_key");
    EXPECT_EQ(server.call("GET", path, "", ann).status, 200) << path;
  }
  const Response made = server.call("POST", "/v1/videos", R"({"prompt": "x"})", ann);
  const std::string path = "/v1/videos/" + Json::parse(made.body).value("id", "");
  EXPECT_EQ(server.call("GET", path, "", ann).status, 200);
  EXPECT_EQ(server.call("GET", path, "", bob).status, 404);
  EXPECT_EQ(server.call("DELETE", path, "", bob).status, 404);
  EXPECT_EQ(Json::parse(server.call("GET", "/v1/videos", "", bob).body).at("data").size(), 0U);
}

TEST(Api, ARequestRepeatedWithItsKeyMakesNoSecondVideo) {
  TestServer server;
  const auto create = [&server](const char* body) {
    return server.call("POST", "/v1/videos", body, {{"idempotency-key", "k"}});
  };
  const Response first = create(R"({"prompt": "x"})");
  const Response second = create(R"({"prompt": "x"})");
  EXPECT_EQ(Json::parse(first.body).at("id"), Json::parse(second.body).at("id"));
  const Response other = create(R"({"prompt": "y"})");
  EXPECT_EQ(other.status, 422);
  EXPECT_EQ(error_of(other).at("code"), "idempotency_key_reused");
}

TEST(Api, AFormIsRepeatedWithAnotherBoundary) {
  TestServer server;
  const auto create = [&server](const std::string& boundary) {
    const std::string body = "--" + boundary +
                             "\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n--" +
                             boundary + "--\r\n";
    const Response response = server.api.answer(
        {.method = "POST",
         .target = "/v1/videos",
         .headers = {{"host", "localhost"},
                     {"idempotency-key", "k"},
                     {"content-type", "multipart/form-data; boundary=" + boundary}},
         .body = body,
         .id = ""});
    return Json::parse(response.body).value("id", "");
  };
  EXPECT_EQ(create("one"), create("two"));
}

TEST(Api, DescribesARequestThatCanBeSentAgain) {
  TestServer server;
  const std::string id = server.create(
      R"({"prompt": "x", "size": "64x48", "num_frames": 7, "num_steps": 20, "skip": "fast",
          "sparsity": {"attn": {"top_keys": 0.3}}})");
  const Json video = server.get("/v1/videos/" + id);
  EXPECT_EQ(video.at("size"), "64x48");
  EXPECT_EQ(video.at("seconds"), "0.3");
  const Json request = video.at("request");
  EXPECT_EQ(request.at("skip"), "fast");
  EXPECT_EQ(request.at("sparsity").at("attn").at("top_keys"), 0.3);
  const std::string again = server.create(request.dump());
  EXPECT_EQ(server.get("/v1/videos/" + again).at("request"), request);
}

TEST(Api, ARemixTakesTheSettingsOfItsSource) {
  TestServer server;
  const std::string source =
      server.create(R"({"prompt": "x", "num_frames": 7, "seed": 18446744073709551615})");
  const Response response =
      server.call("POST", "/v1/videos/" + source + "/remix", R"({"prompt": "y", "num_steps": 8})");
  const Json video = Json::parse(response.body);
  EXPECT_EQ(video.at("remixed_from_video_id"), source);
  EXPECT_EQ(video.at("prompt"), "y");
  EXPECT_EQ(video.at("request").at("seed"), 18446744073709551615U);
  EXPECT_EQ(video.at("request").at("num_frames"), 7);
  EXPECT_EQ(video.at("request").at("num_steps"), 8);
}

TEST(Api, SendsPartsOfAVideo) {
  TestServer server;
  const std::string id = server.create();
  const std::string path = "/v1/videos/" + id + "/content";
  EXPECT_EQ(error_of(server.call("GET", path)).at("code"), "video_not_ready");
  server.complete(id);
  Response response = server.call("GET", path);
  ASSERT_TRUE(response.file);
  EXPECT_EQ(response.file->num_bytes, 10U);
  response = server.call("GET", path, "", {{"range", "bytes=2-4"}});
  EXPECT_EQ(response.status, 206);
  ASSERT_TRUE(response.file);
  EXPECT_EQ(response.file->offset, 2U);
  EXPECT_EQ(response.file->num_bytes, 3U);
  EXPECT_TRUE(std::ranges::count(response.headers, Header{"content-range", "bytes 2-4/10"}));
  EXPECT_EQ(server.call("GET", path, "", {{"range", "bytes=10-"}}).status, 416);
  const std::string tag = "\"" + id + "-video\"";
  EXPECT_EQ(server.call("GET", path, "", {{"if-none-match", tag}}).status, 304);
  EXPECT_EQ(server.call("GET", path, "", {{"range", "bytes=2-4"}, {"if-range", "\"x\""}}).status,
            200);
  EXPECT_EQ(server.call("GET", path + "?variant=poster").status, 400);
}

TEST(Api, LimitsTheWorkOfAVideo) {
  TestServer server({.max_work = 64ULL * 48 * 7 * 10});
  const auto create = [&server](const char* steps) {
    return server.call("POST", "/v1/videos",
                       std::string(R"({"prompt": "x", "size": "64x48", "num_frames": 7, )") +
                           "\"num_steps\": " + steps + "}");
  };
  EXPECT_EQ(create("10").status, 200);
  EXPECT_EQ(create("11").status, 400);
}

TEST(Api, EstimatesFromWhatWasMade) {
  TestServer server;
  const auto estimate = [&server] {
    return Json::parse(server.call("POST", "/v1/videos/estimate", "{}").body);
  };
  EXPECT_TRUE(estimate().at("seconds").is_null());
  server.complete(server.create());
  EXPECT_DOUBLE_EQ(estimate().at("seconds").get<double>(), 12);
  EXPECT_EQ(estimate().at("basis"), "measured");
}

TEST(Api, ErrorsOfTheServerTellNoMoreThanThat) {
  TestServer server;
  server.store.start("none", "{}");
  Database(server.folder / "mochi.db").execute("DROP TABLE events");
  const Response response = server.call("POST", "/v1/videos", R"({"prompt": "x"})");
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(error_of(response).at("code"), "internal_error");
  EXPECT_EQ(response.body.find("mochi.db"), std::string::npos);
  expect_contains(server.log.back(), "mochi.db");
}

}  // namespace
}  // namespace mochi::server
