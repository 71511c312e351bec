# A recipe for Spack: copy this folder as packages/weir into a repository of yours, and say where the sources are
# (`git`, or `spack develop --path FOLDER weir@main`).
from spack.package import *


class Weir(CMakePackage):
    """Generative recommenders with very large embedding tables on CPU clusters."""

    version("main", branch="main")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.22:", type="build")
    depends_on("ninja", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi")
    depends_on("openblas")
    depends_on("libzmq+libsodium")
    depends_on("protobuf-c")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("xxhash")
    depends_on("rocksdb")
    depends_on("libmicrohttpd")
    depends_on("check")

    generator("ninja")
