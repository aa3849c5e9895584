#include "backend/cuda_facts.h"

#include <gtest/gtest.h>

namespace mochi {
namespace {

CudaFacts good() {
  return {.driver_version = 13000,
          .runtime_version = 13000,
          .has_new_enough_driver = true,
          .num_gpus = 1,
          .gpu_name = "NVIDIA H100 80GB HBM3",
          .compute_major = 9,
          .compute_minor = 0};
}

TEST(CudaFacts, ASuitableGpuIsNoProblem) {
  EXPECT_EQ(find_problem(good()), "");
  CudaFacts facts = good();
  facts.compute_major = 8;
  EXPECT_EQ(find_problem(facts), "");
}

TEST(CudaFacts, NoDriver) {
  CudaFacts facts = good();
  facts.driver_version = 0;
  facts.has_new_enough_driver = false;  // CUDA's own answer in that case
  facts.num_gpus = 0;
  EXPECT_EQ(find_problem(facts), "this machine has no NVIDIA driver");
}

TEST(CudaFacts, ADriverThatIsTooOldNamesBothVersions) {
  CudaFacts facts = good();
  facts.driver_version = 12020;
  facts.has_new_enough_driver = false;
  facts.num_gpus = 0;
  EXPECT_EQ(find_problem(facts),
            "the NVIDIA driver is too old: wanted one for CUDA 13.0, found one for 12.2");
}

TEST(CudaFacts, ADriverWithoutAGpu) {
  CudaFacts facts = good();
  facts.num_gpus = 0;
  EXPECT_EQ(find_problem(facts), "the NVIDIA driver reports no GPU");
}

TEST(CudaFacts, AGpuThatIsTooOldIsNamed) {
  CudaFacts facts = good();
  facts.gpu_name = "Tesla T4";
  facts.compute_major = 7;
  facts.compute_minor = 5;
  EXPECT_EQ(find_problem(facts),
            "the GPU 'Tesla T4' is too old: wanted compute capability 8.0, found 7.5");
}

}  // namespace
}  // namespace mochi
