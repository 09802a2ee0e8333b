# What containers get that are confined by AppArmor and name no profile of their own.
profile ocirun-default flags=(attach_disconnected, mediate_deleted) {
  file,
  network,
  capability,
  umount,

  # Whoever runs the container may stop it, and what is in it may speak to each other.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=ocirun-default,
  ptrace (trace, read, tracedby, readby) peer=ocirun-default,

  deny mount,

  # Parameters and memory of the kernel.
  deny /proc/sys/** w,
  deny /proc/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny /proc/{acpi,bus,driver,fs,irq,scsi}/** wklx,

  # Of what the kernel shows of the machine, only the container's cgroups can be written to, where they can be.
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/{debug,security,tracing}/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,
  deny /sys/fs/{aufs,bcache,bpf,btrfs,ext4,f2fs,fuse,nfs,pstore,resctrl,selinux,smackfs,xfs}/** wklx,
}
