# Of cpack -G DEB: what Debian's policy wants in the package, below its own name.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
set(_root ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share/doc)
set(_doc ${_root}/${CPACK_DEBIAN_PACKAGE_NAME})
file(RENAME ${_root}/${CPACK_PACKAGE_NAME} ${_doc})
file(RENAME ${_doc}/LICENSE ${_doc}/copyright)
string(TIMESTAMP _now "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE ${_doc}/changelog
  "${CPACK_DEBIAN_PACKAGE_NAME} (${CPACK_PACKAGE_VERSION}) unstable; urgency=low\n\n"
  "  * Version ${CPACK_PACKAGE_VERSION} of ${CPACK_PACKAGE_NAME}.\n\n"
  " -- ${CPACK_PACKAGE_CONTACT}  ${_now}\n")
execute_process(COMMAND gzip -9n ${_doc}/changelog)
