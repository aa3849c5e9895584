// SQLite 3: a database file and its prepared statements. Errors are exceptions that name the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mochi/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace mochi::server {

// The disk is full, or another limit of it is reached: the call may succeed later.
class DatabaseFull : public Error {
 public:
  using Error::Error;
};

// One statement, compiled once and run many times. Parameters are numbered from 1, columns from 0.
//
//   Statement& s = find.bind(1, id);
//   while (s.step()) names.push_back(s.text(0));
class Statement {
 public:
  Statement(sqlite3* database, std::string_view sql, std::string file);

  // A statement that is bound again starts over.
  Statement& bind(int parameter, std::int64_t value);
  Statement& bind(int parameter, std::string_view text);
  Statement& bind(int parameter, std::nullopt_t null);
  template <typename T>
  Statement& bind(int parameter, const std::optional<T>& value) {
    return value ? bind(parameter, *value) : bind(parameter, std::nullopt);
  }

  // Returns true if the statement gives one more row. After the last row it is ready to run again.
  bool step();
  // Runs a statement whose rows are not wanted.
  void run();
  // Runs a statement that gives one row at most, and returns its first column.
  std::optional<std::int64_t> find_int();

  std::int64_t integer(int column) const;
  std::optional<std::int64_t> optional_integer(int column) const;
  std::string text(int column) const;

 private:
  void check(int code) const;
  void restart();

  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  std::string file_;
};

class Database {
 public:
  // Opens the file, or creates it.
  explicit Database(const std::filesystem::path& file);

  // WAL mode: what is committed survives a killed process; with full syncing, also a loss of power.
  void use_log();

  // Runs statements without parameters.
  void execute(const std::string& sql);
  Statement prepare(std::string_view sql);
  // While it is true, a commit returns when the data are on the disk.
  void set_full_sync(bool is_full);

 private:
  struct Close {
    void operator()(sqlite3* database) const noexcept;
  };
  std::string file_;
  std::unique_ptr<sqlite3, Close> database_;
};

// All changes within its life take effect together at commit(), or not at all.
class Transaction {
 public:
  // A durable transaction is on the disk when commit() returns.
  explicit Transaction(Database& database, bool is_durable = false);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool is_durable_;
  bool is_open_ = true;
};

}  // namespace mochi::server
