# Of cpack -G DEB: what Debian's policy wants in the package, below its own name.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
set(_root ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share/doc)
set(_doc ${_root}/${CPACK_DEBIAN_PACKAGE_NAME})
file(RENAME ${_root}/${CPACK_PACKAGE_NAME} ${_doc})
file(RENAME ${_doc}/LICENSE ${_doc}/copyright)
execute_process(COMMAND gzip -9nc ${CMAKE_CURRENT_LIST_DIR}/../CHANGELOG.md
  OUTPUT_FILE ${_doc}/changelog.gz)
