// An Observer made of functions, which keeps what it sees of interruptions.
#pragma once

#include <functional>
#include <optional>

#include "mochi/mochi.h"

namespace mochi {

struct StepObserver : Observer {
  std::function<bool(const Progress&)> progress = {};  // whether to go on
  std::function<bool()> stop = {};
  std::function<void(const StepView&)> after_step = {};
  std::function<void(const SiteReport&)> site = {};
  std::function<void(const SkipReport&)> skip = {};
  std::function<void(const ProductReport&)> product = {};

  // The state at the last interruption.
  int num_interruptions = 0;
  int num_done = 0;
  Latents latents;
  std::optional<SamplerState> state;

  bool on_progress(const Progress& now) override { return !progress || progress(now); }
  bool should_stop() override { return stop && stop(); }
  void on_step(const StepView& view) override {
    if (after_step) after_step(view);
  }
  void on_interrupted(const StepView& view) override {
    ++num_interruptions;
    num_done = view.num_done();
    latents = view.latents();
    state = view.state();
  }
  bool wants_sites() const override { return static_cast<bool>(site); }
  void on_site(const SiteReport& report) override { site(report); }
  bool wants_skips() const override { return static_cast<bool>(skip); }
  void on_skip(const SkipReport& report) override { skip(report); }
  bool wants_products() const override { return static_cast<bool>(product); }
  void on_product(const ProductReport& report) override { product(report); }
};

}  // namespace mochi
