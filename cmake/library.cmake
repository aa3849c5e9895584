# libmochi: everything behind include/mochi as one library, shared (mochi::mochi) and static
# (mochi::mochi_static), with a CMake package and a pkg-config file for other programs.
include(CMakePackageConfigHelpers)

set(public_rooms base tensor backend io weights text sparsity dit vae pipeline)
set(public_objects "")
foreach(room ${public_rooms})
  list(APPEND public_objects $<TARGET_OBJECTS:mochi_${room}>)
endforeach()
# The objects that a library takes from object libraries are not among its own.
foreach(kernels mochi_cuda_kernels mochi_cuda_sm90)
  if(TARGET ${kernels})
    list(APPEND public_objects $<TARGET_OBJECTS:${kernels}>)
  endif()
endforeach()

function(mochi_public_library target kind exported)
  add_library(${target} ${kind} ${public_objects})
  set_target_properties(${target} PROPERTIES
    LINKER_LANGUAGE CXX OUTPUT_NAME mochi EXPORT_NAME ${exported}
    # While the version begins with 0, a new minor version may change the API.
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_compile_features(${target} INTERFACE cxx_std_20)
  target_include_directories(${target} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
  target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX fmt::fmt dnnl
    PkgConfig::sentencepiece PkgConfig::yamlcpp)
  if(MOCHI_HAS_CUDA)
    target_link_libraries(${target} PRIVATE CUDA::cudart_static)
  endif()
endfunction()

set(MOCHI_CMAKE_FOLDER lib/cmake/mochi)
function(mochi_install_library target export)
  install(TARGETS ${target} EXPORT ${export} LIBRARY DESTINATION lib ARCHIVE DESTINATION lib)
  install(EXPORT ${export} NAMESPACE mochi:: DESTINATION ${MOCHI_CMAKE_FOLDER})
endfunction()

mochi_public_library(libmochi_static STATIC mochi_static)
mochi_install_library(libmochi_static mochiStaticTargets)
# A sanitizer's runtime belongs to a program, not to a shared library.
if(NOT MOCHI_SANITIZE)
  mochi_public_library(libmochi SHARED mochi)
  set(exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_link_options(libmochi PRIVATE LINKER:--version-script=${exports} LINKER:--no-undefined)
  set_target_properties(libmochi PROPERTIES LINK_DEPENDS ${exports})
  mochi_install_library(libmochi mochiTargets)
endif()

configure_package_config_file(cmake/mochiConfig.cmake.in mochiConfig.cmake
  INSTALL_DESTINATION ${MOCHI_CMAKE_FOLDER})
write_basic_package_version_file(mochiConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mochiConfig.cmake
        ${CMAKE_CURRENT_BINARY_DIR}/mochiConfigVersion.cmake DESTINATION ${MOCHI_CMAKE_FOLDER})
configure_file(cmake/mochi.pc.in mochi.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mochi.pc DESTINATION lib/pkgconfig)
install(DIRECTORY include/mochi DESTINATION include)
