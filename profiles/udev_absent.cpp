// What Debian's static libhwloc wants of libudev, which has no static library. hwloc asks udev for
// the names of disks only and goes on without it where udev_new() returns null; tandem reads cores,
// caches and NUMA nodes.

extern "C" {
struct udev;
struct udev_device;

udev* udev_new();
udev* udev_unref(udev* context);
udev_device* udev_device_new_from_subsystem_sysname(udev* context, const char* subsystem,
                                                    const char* sysname);
udev_device* udev_device_unref(udev_device* device);
const char* udev_device_get_property_value(udev_device* device, const char* key);

udev* udev_new() { return nullptr; }
udev* udev_unref(udev* /*context*/) { return nullptr; }
udev_device* udev_device_new_from_subsystem_sysname(udev* /*context*/, const char* /*subsystem*/,
                                                    const char* /*sysname*/) {
  return nullptr;
}
udev_device* udev_device_unref(udev_device* /*device*/) { return nullptr; }
const char* udev_device_get_property_value(udev_device* /*device*/, const char* /*key*/) {
  return nullptr;
}
}
