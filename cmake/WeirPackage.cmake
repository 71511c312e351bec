# What `cmake --install` puts beside the programs, and the Debian package (`cpack -G DEB`).
add_custom_command(
  OUTPUT "${CMAKE_BINARY_DIR}/completion/weir" "${CMAKE_BINARY_DIR}/completion/_weir"
  COMMAND "${CMAKE_SOURCE_DIR}/scripts/make-completion" "${CMAKE_BINARY_DIR}/bin" "${CMAKE_BINARY_DIR}/completion"
  DEPENDS "${CMAKE_SOURCE_DIR}/scripts/make-completion" weir
  COMMENT "Completion"
  VERBATIM)
add_custom_target(completion ALL DEPENDS "${CMAKE_BINARY_DIR}/completion/weir")
configure_file("${CMAKE_SOURCE_DIR}/ops/modulefile.in" "${CMAKE_BINARY_DIR}/modulefile/${PROJECT_VERSION}" @ONLY)

install(FILES "${CMAKE_BINARY_DIR}/completion/weir"
  DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
install(FILES "${CMAKE_BINARY_DIR}/completion/_weir" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
install(FILES "${CMAKE_BINARY_DIR}/modulefile/${PROJECT_VERSION}"
  DESTINATION "${CMAKE_INSTALL_DATADIR}/weir/modulefiles/weir")
install(FILES "${CMAKE_SOURCE_DIR}/ops/grafana-dashboard.json" DESTINATION "${CMAKE_INSTALL_DATADIR}/weir")
install(DIRECTORY "${CMAKE_SOURCE_DIR}/slurm" "${CMAKE_SOURCE_DIR}/configs"
  DESTINATION "${CMAKE_INSTALL_DATADIR}/weir" USE_SOURCE_PERMISSIONS)
install(FILES "${CMAKE_SOURCE_DIR}/README.md" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(DIRECTORY "${CMAKE_SOURCE_DIR}/docs" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME weir)
set(CPACK_PACKAGE_CONTACT "the maintainers of weir")
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_BINARY_DIR}/package")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS openmpi-bin)
include(CPack)
