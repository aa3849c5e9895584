#include "server/store.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace mochi::server {
namespace {

// The version of the schema below, in the database's `user_version`. A change of the schema adds
// one, and a step to Store::upgrade() that leads there from the version before.
constexpr std::int64_t kSchemaVersion = 1;

constexpr const char* kSchema = R"(
  CREATE TABLE videos (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    completed_at INTEGER,
    request TEXT NOT NULL,
    fields TEXT NOT NULL,
    remixed_from TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    result TEXT NOT NULL,
    num_crashes INTEGER NOT NULL,
    idempotency_key TEXT,
    body_digest TEXT
  );
  CREATE UNIQUE INDEX videos_by_idempotency ON videos (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
  CREATE INDEX videos_by_status ON videos (status, number);
  CREATE INDEX videos_by_owner ON videos (owner, number);
  CREATE TABLE events (
    video TEXT NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (video, number)
  ) WITHOUT ROWID;
  CREATE TABLE timings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    num_latents INTEGER NOT NULL,
    num_steps INTEGER NOT NULL,
    num_branches INTEGER NOT NULL,
    method TEXT NOT NULL,
    num_evaluated INTEGER NOT NULL,
    sampling_ms INTEGER NOT NULL,
    other_ms INTEGER NOT NULL
  );
)";

constexpr int kNumTimings = 200;  // that are kept

#define MOCHI_VIDEO_COLUMNS                                                                  \
  "id, owner, status, created_at, completed_at, request, fields, remixed_from, error_code, " \
  "error_message, result, num_crashes"

// Reads the columns above.
Video read_video(const Statement& row) {
  Video video;
  video.id = row.text(0);
  video.owner = row.text(1);
  video.status = parse_video_status(row.text(2)).value_or(VideoStatus::kFailed);
  video.created_at = row.integer(3);
  video.completed_at = row.optional_integer(4);
  video.request = row.text(5);
  video.fields = row.text(6);
  video.remixed_from = row.text(7);
  if (std::string code = row.text(8); !code.empty()) {
    video.error = VideoError{.code = std::move(code), .message = row.text(9)};
  }
  video.result = row.text(10);
  video.num_crashes = static_cast<int>(row.integer(11));
  return video;
}

constexpr double kMsPerSecond = 1e3;

}  // namespace

Store::Store(const std::filesystem::path& file) : file_(file), database_(file) { upgrade(); }

void Store::upgrade() {
  const std::int64_t found = database_.prepare("PRAGMA user_version").find_int().value_or(0);
  if (found == kSchemaVersion) return database_.use_log();
  if (found > kSchemaVersion) {
    fail("'{}': wanted a database of version {} or older, found version {}: a newer mochi wrote it",
         file_.string(), kSchemaVersion, found);
  }
  if (database_.prepare("SELECT count(*) FROM sqlite_schema").find_int().value_or(0) != 0) {
    fail("'{}': wanted a database of mochi serve, found another one", file_.string());
  }
  database_.use_log();
  Transaction transaction(database_, true);
  database_.execute(kSchema);
  database_.execute(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
  transaction.commit();
}

Statement& Store::statement(const char* sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) return found->second;
  return statements_.emplace(sql, database_.prepare(sql)).first->second;
}

void Store::add(const Video& video, const std::optional<Idempotency>& idempotency,
                const std::string& state_event) {
  Transaction transaction(database_, true);
  std::optional<std::string> key;
  std::optional<std::string> digest;
  if (idempotency) {
    key = idempotency->key;
    digest = idempotency->body_digest;
  }
  statement(
      "INSERT INTO videos (id, owner, status, created_at, request, fields, remixed_from, "
      "result, num_crashes, idempotency_key, body_digest) "
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '', 0, ?8, ?9)")
      .bind(1, video.id)
      .bind(2, video.owner)
      .bind(3, name_of(video.status))
      .bind(4, video.created_at)
      .bind(5, video.request)
      .bind(6, video.fields)
      .bind(7, video.remixed_from)
      .bind(8, key)
      .bind(9, digest)
      .run();
  add_event(video.id, "state", state_event);
  transaction.commit();
}

std::vector<Video> Store::read_all(Statement& statement) {
  std::vector<Video> videos;
  while (statement.step()) videos.push_back(read_video(statement));
  return videos;
}

std::optional<Video> Store::find(const std::string& id) {
  std::vector<Video> found =
      read_all(statement("SELECT " MOCHI_VIDEO_COLUMNS " FROM videos WHERE id = ?1").bind(1, id));
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

std::optional<Store::Repeated> Store::find_repeated(const std::string& owner,
                                                    const std::string& key) {
  Statement& rows = statement("SELECT " MOCHI_VIDEO_COLUMNS
                              ", body_digest FROM videos WHERE owner = ?1 AND idempotency_key = ?2")
                        .bind(1, owner)
                        .bind(2, key);
  std::optional<Repeated> repeated;
  while (rows.step()) repeated = {.video = read_video(rows), .body_digest = rows.text(12)};
  return repeated;
}

VideoPage Store::list(const ListOptions& options) {
  // Beyond all numbers, from the end where the list begins.
  std::int64_t after = options.is_ascending ? 0 : std::numeric_limits<std::int64_t>::max();
  if (!options.after.empty()) {
    const std::optional<std::int64_t> number =
        statement("SELECT number FROM videos WHERE id = ?1 AND owner = ?2")
            .bind(1, options.after)
            .bind(2, options.owner)
            .find_int();
    if (!number) fail("wanted the id of a video, found '{}'", options.after);
    after = *number;
  }
  Statement& rows =
      options.is_ascending
          ? statement("SELECT " MOCHI_VIDEO_COLUMNS
                      " FROM videos WHERE owner = ?1 AND number > ?2 ORDER BY number LIMIT ?3")
          : statement(
                "SELECT " MOCHI_VIDEO_COLUMNS
                " FROM videos WHERE owner = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3");
  const std::int64_t one_more = std::int64_t{options.limit} + 1;
  VideoPage page{.videos = read_all(rows.bind(1, options.owner).bind(2, after).bind(3, one_more))};
  page.has_more = std::ssize(page.videos) == one_more;
  if (page.has_more) page.videos.pop_back();
  return page;
}

void Store::remove(const std::string& id) {
  Transaction transaction(database_, true);
  statement("DELETE FROM videos WHERE id = ?1").bind(1, id).run();
  transaction.commit();
}

std::vector<Video> Store::queued(int limit) {
  return read_all(statement("SELECT " MOCHI_VIDEO_COLUMNS
                            " FROM videos WHERE status = 'queued' ORDER BY number LIMIT ?1")
                      .bind(1, limit));
}

std::int64_t Store::count(VideoStatus status) {
  return statement("SELECT count(*) FROM videos WHERE status = ?1")
      .bind(1, name_of(status))
      .find_int()
      .value_or(0);
}

std::int64_t Store::count_queued(const std::string& owner) {
  return statement("SELECT count(*) FROM videos WHERE status = 'queued' AND owner = ?1")
      .bind(1, owner)
      .find_int()
      .value_or(0);
}

std::vector<std::string> Store::queued_ids() {
  std::vector<std::string> ids;
  Statement& rows = statement("SELECT id FROM videos WHERE status = 'queued' ORDER BY number");
  while (rows.step()) ids.push_back(rows.text(0));
  return ids;
}

std::vector<std::string> Store::ids() {
  std::vector<std::string> ids;
  Statement& rows = statement("SELECT id FROM videos");
  while (rows.step()) ids.push_back(rows.text(0));
  return ids;
}

void Store::set_status(const std::string& id, VideoStatus status, const std::string& state_event,
                       Statement& change) {
  const bool is_final = status == VideoStatus::kCompleted || status == VideoStatus::kFailed;
  Transaction transaction(database_, is_final);
  change.bind(1, id).bind(2, name_of(status)).run();
  add_event(id, "state", state_event);
  transaction.commit();
}

void Store::start(const std::string& id, const std::string& state_event) {
  set_status(id, VideoStatus::kInProgress, state_event,
             statement("UPDATE videos SET status = ?2 WHERE id = ?1"));
}

void Store::complete(const std::string& id, std::int64_t completed_at, const std::string& result,
                     const std::string& state_event) {
  set_status(
      id, VideoStatus::kCompleted, state_event,
      statement("UPDATE videos SET status = ?2, completed_at = ?3, result = ?4 WHERE id = ?1")
          .bind(3, completed_at)
          .bind(4, result));
}

void Store::mark_failed(const std::string& id, std::int64_t completed_at, const VideoError& error,
                        const std::string& state_event) {
  set_status(id, VideoStatus::kFailed, state_event,
             statement("UPDATE videos SET status = ?2, completed_at = ?3, error_code = ?4, "
                       "error_message = ?5 WHERE id = ?1")
                 .bind(3, completed_at)
                 .bind(4, error.code)
                 .bind(5, error.message));
}

void Store::requeue(const std::string& id, int num_crashes, const std::string& state_event) {
  set_status(id, VideoStatus::kQueued, state_event,
             statement("UPDATE videos SET status = ?2, num_crashes = ?3 WHERE id = ?1")
                 .bind(3, std::int64_t{num_crashes}));
}

std::vector<Video> Store::interrupted() {
  return read_all(statement("SELECT " MOCHI_VIDEO_COLUMNS
                            " FROM videos WHERE status = 'in_progress' ORDER BY number"));
}

void Store::add_event(const std::string& id, const std::string& type, const std::string& data) {
  statement(
      "INSERT INTO events (video, number, type, data) SELECT ?1, "
      "(SELECT coalesce(max(number), 0) + 1 FROM events WHERE video = ?1), ?2, ?3 "
      "WHERE EXISTS (SELECT 1 FROM videos WHERE id = ?1)")
      .bind(1, id)
      .bind(2, type)
      .bind(3, data)
      .run();
}

std::vector<VideoEvent> Store::events_after(const std::string& id, std::int64_t number, int limit) {
  std::vector<VideoEvent> events;
  Statement& rows = statement(
                        "SELECT number, type, data FROM events WHERE video = ?1 AND "
                        "number > ?2 ORDER BY number LIMIT ?3")
                        .bind(1, id)
                        .bind(2, number)
                        .bind(3, std::int64_t{limit});
  while (rows.step()) events.push_back({rows.integer(0), rows.text(1), rows.text(2)});
  return events;
}

std::vector<Video> Store::finished() {
  return read_all(statement("SELECT " MOCHI_VIDEO_COLUMNS
                            " FROM videos WHERE status IN ('completed', 'failed') "
                            "ORDER BY completed_at, number"));
}

std::vector<Video> Store::finished_before(std::int64_t completed_at) {
  return read_all(statement("SELECT " MOCHI_VIDEO_COLUMNS
                            " FROM videos WHERE status IN ('completed', 'failed') "
                            "AND completed_at < ?1 ORDER BY completed_at, number")
                      .bind(1, completed_at));
}

void Store::add_timing(const Timing& timing) {
  Transaction transaction(database_);
  const auto to_ms = [](double seconds) {
    return static_cast<std::int64_t>(seconds * kMsPerSecond);
  };
  statement(
      "INSERT INTO timings (num_latents, num_steps, num_branches, method, num_evaluated, "
      "sampling_ms, other_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
      .bind(1, timing.workload.num_latents)
      .bind(2, std::int64_t{timing.workload.num_steps})
      .bind(3, std::int64_t{timing.workload.num_branches})
      .bind(4, timing.workload.method)
      .bind(5, std::int64_t{timing.num_evaluated})
      .bind(6, to_ms(timing.sampling_seconds))
      .bind(7, to_ms(timing.other_seconds))
      .run();
  statement("DELETE FROM timings WHERE number <= (SELECT max(number) FROM timings) - ?1")
      .bind(1, std::int64_t{kNumTimings})
      .run();
  transaction.commit();
}

std::vector<Timing> Store::timings() {
  std::vector<Timing> timings;
  Statement& rows = statement(
      "SELECT num_latents, num_steps, num_branches, method, num_evaluated, "
      "sampling_ms, other_ms FROM timings ORDER BY number DESC");
  while (rows.step()) {
    timings.push_back({.workload = {.num_latents = rows.integer(0),
                                    .num_steps = static_cast<int>(rows.integer(1)),
                                    .num_branches = static_cast<int>(rows.integer(2)),
                                    .method = rows.text(3)},
                       .num_evaluated = static_cast<int>(rows.integer(4)),
                       .sampling_seconds = static_cast<double>(rows.integer(5)) / kMsPerSecond,
                       .other_seconds = static_cast<double>(rows.integer(6)) / kMsPerSecond});
  }
  return timings;
}

}  // namespace mochi::server
