# The CUDA backend: whether there is one, and what it is built from.

# cuBLASLt is loaded when the program runs; building wants its header alone. NVIDIA's toolkit has it,
# and tools/install_cuda.sh brings it where only the compiler is.
set(MOCHI_HAS_CUDA OFF)
if(NOT MOCHI_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # each target says
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    find_path(CUBLASLT_INCLUDE cublasLt.h
              HINTS ${PROJECT_SOURCE_DIR}/.nvidia/include ENV CUDA_PATH PATH_SUFFIXES include
              PATHS /usr/local/cuda/include)
  endif()
  if(CMAKE_CUDA_COMPILER AND CUBLASLT_INCLUDE)
    enable_language(CUDA)
    # CMake 3.25 does not know how this compiler is asked for C++20.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA_STANDARD 20)
    if(MOCHI_CCACHE)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${MOCHI_CCACHE})
    endif()
    find_package(CUDAToolkit 12.4 REQUIRED)
    # Where tools/install_cuda.sh puts the library, for programs run from the build folder.
    set(CMAKE_BUILD_RPATH ${PROJECT_SOURCE_DIR}/.nvidia/lib)
    set(MOCHI_HAS_CUDA ON)
  elseif(MOCHI_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MOCHI_CUDA is ON, and there is no nvcc or no cublasLt.h: tools/install_cuda.sh brings the header")
  endif()
endif()
message(STATUS "CUDA backend: ${MOCHI_HAS_CUDA}")

# Object library `name` of .cu files for the given architectures.
function(mochi_cuda_objects name architectures)
  add_library(${name} OBJECT ${ARGN})
  target_link_libraries(${name} PRIVATE mochi_options)
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${architectures}")
  # A kernel that spills registers, or a setmaxnreg that is ignored, fails the build.
  target_compile_options(${name} PRIVATE --Werror all-warnings -Xptxas=-warn-spills,-Werror
    -Xcompiler=-Wall,-Wextra,-Wno-unused-parameter --expt-relaxed-constexpr)
endfunction()

# Adds src/backend/cuda to `target`, or what stands in for it.
function(mochi_add_cuda_backend target)
  set(folder ${PROJECT_SOURCE_DIR}/src/backend)
  if(NOT MOCHI_HAS_CUDA)
    target_sources(${target} PRIVATE ${folder}/no_cuda/no_cuda.cpp)
    return()
  endif()
  file(GLOB host_sources CONFIGURE_DEPENDS ${folder}/cuda/*.cpp ${folder}/cuda/common/*.cpp)
  file(GLOB portable_kernels CONFIGURE_DEPENDS ${folder}/cuda/kernels/*.cu)
  file(GLOB hopper_kernels CONFIGURE_DEPENDS ${folder}/cuda/sm90/*.cu)
  target_sources(${target} PRIVATE ${host_sources})
  target_include_directories(${target} SYSTEM PRIVATE ${CUBLASLT_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
  mochi_cuda_objects(mochi_cuda_kernels "${MOCHI_CUDA_ARCHITECTURES}" ${portable_kernels})
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:mochi_cuda_kernels>)
  if(hopper_kernels)
    mochi_cuda_objects(mochi_cuda_sm90 "90a-real" ${hopper_kernels})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:mochi_cuda_sm90>)
  endif()
  target_link_libraries(${target} PUBLIC CUDA::cudart_static)
endfunction()
