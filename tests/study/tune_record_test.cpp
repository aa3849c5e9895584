#include "study/tune_record.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/temp_folder.h"
#include "io/json.h"
#include "study/tune_start.h"

namespace mochi::study {
namespace {

constexpr Workload kRecorded{64, 8};

TuneRecord make_empty() {
  return {.settings = {{"seed", 0}},
          .start = make_start(kRecorded),
          .workload = kRecorded,
          .goal = {40, 1}};
}

TuneRecord make_full() {
  TuneRecord record = make_empty();
  record.dense = {{64.125, 1.0625, "f"}};
  record.trials.push_back({record.start, {{36, 39.5, 0.9, 0.05, 64, 1.25, 0.5}}});
  record.trials.push_back({make_config(record.start, {16}, kRecorded), {{16, 42, 0.95, 0.03, 16}}});
  return record;
}

TEST(TuneRecord, IsReadAsItWasWritten) {
  const TempFolder folder;
  const TuneRecord written = make_full();
  write_record(folder.path(), written);
  TuneRecord read = make_empty();
  read_record(folder.path(), read);
  ASSERT_EQ(read.dense.size(), 1U);
  EXPECT_EQ(read.dense[0].seconds, 64.125);
  EXPECT_EQ(read.dense[0].step_seconds, 1.0625);
  ASSERT_EQ(read.trials.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(to_json(read.trials[i].config), to_json(written.trials[i].config));
    const Evaluation& a = read.trials[i].evaluations.at(0);
    const Evaluation& b = written.trials[i].evaluations.at(0);
    EXPECT_EQ(std::tie(a.seconds, a.psnr, a.ssim, a.relative_error, a.num_evaluated,
                       a.full_step_seconds, a.sparse_step_seconds),
              std::tie(b.seconds, b.psnr, b.ssim, b.relative_error, b.num_evaluated,
                       b.full_step_seconds, b.sparse_step_seconds));
    // So a resumed search predicts the same seconds.
    EXPECT_EQ(read.predict_seconds(i), written.predict_seconds(i));
  }
  const Json json = read_json(record_path(folder.path()));
  EXPECT_EQ(json.at("step_costs"), Json({{"dense", 1.0625}, {"full", 1.25}, {"sparse", 0.5}}));
  EXPECT_EQ(json.at("trials")[1].at("predicted_seconds"), 17);
}

TEST(TuneRecord, OtherVersionsAreRefused) {
  const TempFolder folder;
  write_record(folder.path(), make_full());
  Json json = read_json(record_path(folder.path()));
  json.erase("format");
  write_file_atomically(record_path(folder.path()), json.dump());
  TuneRecord record = make_empty();
  try {
    read_record(folder.path(), record);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("has format 1, wanted is 2: another version of mochi"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace mochi::study
