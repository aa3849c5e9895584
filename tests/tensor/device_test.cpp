#include "tensor/device.h"

#include <gtest/gtest.h>

#include "tensor/tensor.h"

namespace mochi {
namespace {

TEST(Device, HasANameAndANumber) {
  EXPECT_EQ(Device().name(), "cpu");
  EXPECT_EQ(Device::cuda().name(), "cuda");
  EXPECT_EQ(Device::cuda(1).name(), "cuda:1");
  EXPECT_TRUE(Device::cpu(2).is_cpu());
  EXPECT_FALSE(Device::cuda().is_cpu());
  EXPECT_NE(Device::cuda(0), Device::cuda(1));
  EXPECT_NE(Device::cpu(0), Device::cuda(0));
  EXPECT_EQ(Device::cpu(0), Device());
}

TEST(Device, IsKnownToItsTensors) {
  const std::unique_ptr<Allocator> allocator = make_host_allocator(Device::cpu(3));
  const Tensor tensor(DType::kF32, {4, 2}, *allocator);
  EXPECT_EQ(tensor.view().device(), Device::cpu(3));
  EXPECT_EQ(tensor.view().rows(1, 2).device(), Device::cpu(3));
  EXPECT_EQ(Tensor(DType::kF32, {1}).view().device(), Device::cpu());
}

}  // namespace
}  // namespace mochi
