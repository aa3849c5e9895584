#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <atomic>
#include <memory>

namespace mochi {
namespace {

std::atomic<LogLevel> s_level{LogLevel::kInfo};
std::atomic<bool> s_quiet{false};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

// Never registered with spdlog, so a program that embeds the engine keeps its own default logger.
spdlog::logger& logger() {
  static const std::unique_ptr<spdlog::logger> instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto created = std::make_unique<spdlog::logger>("mochi", std::move(sink));
    created->set_level(spdlog::level::trace);
    created->set_pattern("[%H:%M:%S] %^%l%$: %v");
    created->flush_on(spdlog::level::trace);
    return created;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) { s_level = level; }

void set_log_quiet(bool quiet) { s_quiet = quiet; }

bool is_logged(LogLevel level) {
  const LogLevel least = s_quiet ? LogLevel::kError : s_level.load();
  return level >= least;
}

void log_line(LogLevel level, std::string_view line) {
  if (is_logged(level))
    logger().log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace mochi
