#include "server/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <utility>

#include "base/error.h"

namespace mochi::server {
namespace {

[[noreturn]] void throw_sqlite(int code, const std::string& file, const char* message) {
  const std::string text = fmt::format("'{}': {}", file, message);
  const int primary = code & 0xff;
  const bool is_full =
      primary == SQLITE_FULL || code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_SHMSIZE;
  if (is_full) throw DatabaseFull(text);
  throw Error(text);
}

constexpr int kBusyTimeoutMs = 5000;

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const noexcept {
  sqlite3_finalize(statement);
}

Statement::Statement(sqlite3* database, std::string_view sql, std::string file)
    : file_(std::move(file)) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) throw_sqlite(code, file_, sqlite3_errmsg(database));
  statement_.reset(statement);
}

void Statement::check(int code) const {
  if (code == SQLITE_OK) return;
  throw_sqlite(code, file_, sqlite3_errmsg(sqlite3_db_handle(statement_.get())));
}

// An exception may have left rows unread.
void Statement::restart() {
  if (sqlite3_stmt_busy(statement_.get()) != 0) sqlite3_reset(statement_.get());
}

Statement& Statement::bind(int parameter, std::int64_t value) {
  restart();
  check(sqlite3_bind_int64(statement_.get(), parameter, value));
  return *this;
}

Statement& Statement::bind(int parameter, std::string_view text) {
  restart();
  check(sqlite3_bind_text64(statement_.get(), parameter, text.data(), text.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind(int parameter, std::nullopt_t /*null*/) {
  restart();
  check(sqlite3_bind_null(statement_.get(), parameter));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) {
    sqlite3_reset(statement_.get());
    return false;
  }
  sqlite3* const database = sqlite3_db_handle(statement_.get());
  const int extended = sqlite3_extended_errcode(database);
  const std::string message = sqlite3_errmsg(database);
  sqlite3_reset(statement_.get());
  throw_sqlite(extended, file_, message.c_str());
}

void Statement::run() {
  while (step()) continue;
}

std::optional<std::int64_t> Statement::find_int() {
  if (!step()) return std::nullopt;
  const std::optional<std::int64_t> value = optional_integer(0);
  sqlite3_reset(statement_.get());
  return value;
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::optional<std::int64_t> Statement::optional_integer(int column) const {
  if (sqlite3_column_type(statement_.get(), column) == SQLITE_NULL) return std::nullopt;
  return integer(column);
}

std::string Statement::text(int column) const {
  const unsigned char* const text = sqlite3_column_text(statement_.get(), column);
  if (text == nullptr) return "";
  return {reinterpret_cast<const char*>(text),
          static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

void Database::Close::operator()(sqlite3* database) const noexcept { sqlite3_close_v2(database); }

Database::Database(const std::filesystem::path& file) : file_(file.string()) {
  sqlite3* database = nullptr;
  const int code =
      sqlite3_open_v2(file.c_str(), &database,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  database_.reset(database);
  if (code != SQLITE_OK) {
    throw_sqlite(code, file_, database != nullptr ? sqlite3_errmsg(database) : "out of memory");
  }
  sqlite3_extended_result_codes(database, 1);
  sqlite3_busy_timeout(database, kBusyTimeoutMs);
  execute("PRAGMA foreign_keys = ON");
  set_full_sync(false);
}

void Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) throw_sqlite(code, file_, sqlite3_errmsg(database_.get()));
}

void Database::use_log() { execute("PRAGMA journal_mode = WAL"); }

Statement Database::prepare(std::string_view sql) { return {database_.get(), sql, file_}; }

void Database::set_full_sync(bool is_full) {
  execute(is_full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
}

Transaction::Transaction(Database& database, bool is_durable)
    : database_(database), is_durable_(is_durable) {
  if (is_durable_) database_.set_full_sync(true);
  database_.execute("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
  try {
    if (is_open_) database_.execute("ROLLBACK");
    if (is_durable_) database_.set_full_sync(false);
  } catch (const Error&) {
    return;  // SQLite rolls back by itself what could not be committed
  }
}

void Transaction::commit() {
  database_.execute("COMMIT");
  is_open_ = false;
}

}  // namespace mochi::server
