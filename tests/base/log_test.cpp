#include "base/log.h"

#include <gtest/gtest.h>

#include <string>

#include "base/temp_folder.h"

namespace mochi {
namespace {

class Log : public testing::Test {
 protected:
  void TearDown() override {
    set_log_level(LogLevel::kInfo);
    set_log_quiet(false);
  }

  static std::string log_all() {
    testing::internal::CaptureStderr();
    log_debug("a {} line", "debug");
    log_info("an {} line", "info");
    log_warn("a {} line", "warn");
    log_error("an {} line", "error");
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(Log, InfoAndAboveByDefault) {
  const std::string text = log_all();
  EXPECT_EQ(text.find("debug line"), std::string::npos);
  expect_contains(text, "an info line\n");
  expect_contains(text, "a warn line\n");
  expect_contains(text, "an error line\n");
}

TEST_F(Log, LevelIsKept) {
  set_log_level(LogLevel::kDebug);
  expect_contains(log_all(), "a debug line\n");
  set_log_level(LogLevel::kWarn);
  EXPECT_EQ(log_all().find("info line"), std::string::npos);
}

TEST_F(Log, QuietLeavesErrors) {
  set_log_level(LogLevel::kDebug);
  set_log_quiet(true);
  const std::string text = log_all();
  EXPECT_EQ(text.find("warn line"), std::string::npos);
  expect_contains(text, "an error line\n");
}

TEST_F(Log, NothingGoesToStdout) {
  testing::internal::CaptureStdout();
  log_all();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

}  // namespace
}  // namespace mochi
