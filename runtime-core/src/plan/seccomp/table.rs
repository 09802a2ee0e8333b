//! Names and numbers of system calls. Generated: see `examples/syscall-table.rs`.

/// How many names there are.
pub(super) const COUNT: usize = 499;

/// All names in the order of their bytes, without anything between.
pub(super) static NAMES: &str = "_llseek_newselect_sysctlacceptaccept4accessacctadd_keyadjtimexafs_syscallalarmarch_prctlarm_fadvise6\
4_64arm_sync_file_rangebdflushbindbpfbreakbreakpointbrkcacheflushcachestatcapgetcapsetchdirchmodchow\
nchown32chrootclock_adjtimeclock_adjtime64clock_getresclock_getres_time64clock_gettimeclock_gettime6\
4clock_nanosleepclock_nanosleep_time64clock_settimeclock_settime64cloneclone3closeclose_rangeconnect\
copy_file_rangecreatcreate_moduledelete_moduledupdup2dup3epoll_createepoll_create1epoll_ctlepoll_ctl\
_oldepoll_pwaitepoll_pwait2epoll_waitepoll_wait_oldeventfdeventfd2execveexecveatexitexit_groupfacces\
satfaccessat2fadvise64fadvise64_64fallocatefanotify_initfanotify_markfchdirfchmodfchmodatfchmodat2fc\
hownfchown32fchownatfcntlfcntl64fdatasyncfgetxattrfile_getattrfile_setattrfinit_moduleflistxattrfloc\
kforkfremovexattrfsconfigfsetxattrfsmountfsopenfspickfstatfstat64fstatat64fstatfsfstatfs64fsyncftime\
ftruncateftruncate64futexfutex_requeuefutex_time64futex_waitfutex_waitvfutex_wakefutimesatget_kernel\
_symsget_mempolicyget_robust_listget_thread_areaget_tlsgetcpugetcwdgetdentsgetdents64getegidgetegid3\
2geteuidgeteuid32getgidgetgid32getgroupsgetgroups32getitimergetpeernamegetpgidgetpgrpgetpidgetpmsgge\
tppidgetprioritygetrandomgetresgidgetresgid32getresuidgetresuid32getrlimitgetrusagegetsidgetsockname\
getsockoptgettidgettimeofdaygetuidgetuid32getxattrgetxattratgttyidleinit_moduleinotify_add_watchinot\
ify_initinotify_init1inotify_rm_watchio_cancelio_destroyio_geteventsio_pgeteventsio_pgetevents_time6\
4io_setupio_submitio_uring_enterio_uring_registerio_uring_setupioctliopermioplioprio_getioprio_setip\
ckcmpkexec_file_loadkexec_loadkeyctlkilllandlock_add_rulelandlock_create_rulesetlandlock_restrict_se\
lflchownlchown32lgetxattrlinklinkatlistenlistmountlistxattrlistxattratllistxattrlocklookup_dcookielr\
emovexattrlseeklsetxattrlsm_get_self_attrlsm_list_moduleslsm_set_self_attrlstatlstat64madvisemap_sha\
dow_stackmbindmembarriermemfd_creatememfd_secretmigrate_pagesmincoremkdirmkdiratmknodmknodatmlockmlo\
ck2mlockallmmapmmap2modify_ldtmountmount_setattrmove_mountmove_pagesmprotectmpxmq_getsetattrmq_notif\
ymq_openmq_timedreceivemq_timedreceive_time64mq_timedsendmq_timedsend_time64mq_unlinkmremapmsealmsgc\
tlmsggetmsgrcvmsgsndmsyncmultiplexermunlockmunlockallmunmapname_to_handle_atnanosleepnewfstatatnfsse\
rvctlniceoldfstatoldlstatoldoldunameoldstatoldunameopenopen_by_handle_atopen_treeopen_tree_attropena\
topenat2pausepciconfig_iobasepciconfig_readpciconfig_writeperf_event_openpersonalitypidfd_getfdpidfd\
_openpidfd_send_signalpipepipe2pivot_rootpkey_allocpkey_freepkey_mprotectpollppollppoll_time64prctlp\
read64preadvpreadv2prlimit64process_madviseprocess_mreleaseprocess_vm_readvprocess_vm_writevprofprof\
ilpselect6pselect6_time64ptraceputpmsgpwrite64pwritevpwritev2query_modulequotactlquotactl_fdreadread\
aheadreaddirreadlinkreadlinkatreadvrebootrecvrecvfromrecvmmsgrecvmmsg_time64recvmsgremap_file_pagesr\
emovexattrremovexattratrenamerenameatrenameat2request_keyrestart_syscallriscv_flush_icacheriscv_hwpr\
obermdirrseqrt_sigactionrt_sigpendingrt_sigprocmaskrt_sigqueueinfort_sigreturnrt_sigsuspendrt_sigtim\
edwaitrt_sigtimedwait_time64rt_tgsigqueueinfortass390_guarded_storages390_pci_mmio_reads390_pci_mmio\
_writes390_runtime_instrs390_sthyisched_get_priority_maxsched_get_priority_minsched_getaffinitysched\
_getattrsched_getparamsched_getschedulersched_rr_get_intervalsched_rr_get_interval_time64sched_setaf\
finitysched_setattrsched_setparamsched_setschedulersched_yieldseccompsecurityselectsemctlsemgetsemop\
semtimedopsemtimedop_time64sendsendfilesendfile64sendmmsgsendmsgsendtoset_mempolicyset_mempolicy_hom\
e_nodeset_robust_listset_thread_areaset_tid_addressset_tlssetdomainnamesetfsgidsetfsgid32setfsuidset\
fsuid32setgidsetgid32setgroupssetgroups32sethostnamesetitimersetnssetpgidsetprioritysetregidsetregid\
32setresgidsetresgid32setresuidsetresuid32setreuidsetreuid32setrlimitsetsidsetsockoptsettimeofdayset\
uidsetuid32setxattrsetxattratsgetmaskshmatshmctlshmdtshmgetshutdownsigactionsigaltstacksignalsignalf\
dsignalfd4sigpendingsigprocmasksigreturnsigsuspendsocketsocketcallsocketpairsplicespu_createspu_runs\
setmaskstatstat64statfsstatfs64statmountstatxstimesttysubpage_protswapcontextswapoffswaponswitch_end\
iansymlinksymlinkatsyncsync_file_rangesync_file_range2syncfssys_debug_setcontextsysfssysinfosyslogte\
etgkilltimetimer_createtimer_deletetimer_getoverruntimer_gettimetimer_gettime64timer_settimetimer_se\
ttime64timerfdtimerfd_createtimerfd_gettimetimerfd_gettime64timerfd_settimetimerfd_settime64timestki\
lltruncatetruncate64tuxcallugetrlimitulimitumaskumountumount2unameunlinkunlinkatunshareuretprobeusel\
ibuserfaultfdusr26usr32ustatutimeutimensatutimensat_time64utimesvforkvhangupvm86vm86oldvmsplicevserv\
erwait4waitidwaitpidwritewritev";

/// Where each name ends in [`NAMES`].
pub(super) static ENDS: [u16; COUNT] = [
    7, 17, 24, 30, 37, 43, 47, 54, 62, 73, 78, 88, 104, 123, 130, 134, 137, 142, 152, 155, 165,
    174, 180, 186, 191, 196, 201, 208, 214, 227, 242, 254, 273, 286, 301, 316, 338, 351, 366, 371,
    377, 382, 393, 400, 415, 420, 433, 446, 449, 453, 457, 469, 482, 491, 504, 515, 527, 537, 551,
    558, 566, 572, 580, 584, 594, 603, 613, 622, 634, 643, 656, 669, 675, 681, 689, 698, 704, 712,
    720, 725, 732, 741, 750, 762, 774, 786, 796, 801, 805, 817, 825, 834, 841, 847, 853, 858, 865,
    874, 881, 890, 895, 900, 909, 920, 925, 938, 950, 960, 971, 981, 990, 1005, 1018, 1033, 1048,
    1055, 1061, 1067, 1075, 1085, 1092, 1101, 1108, 1117, 1123, 1131, 1140, 1151, 1160, 1171, 1178,
    1185, 1191, 1198, 1205, 1216, 1225, 1234, 1245, 1254, 1265, 1274, 1283, 1289, 1300, 1310, 1316,
    1328, 1334, 1342, 1350, 1360, 1364, 1368, 1379, 1396, 1408, 1421, 1437, 1446, 1456, 1468, 1481,
    1501, 1509, 1518, 1532, 1549, 1563, 1568, 1574, 1578, 1588, 1598, 1601, 1605, 1620, 1630, 1636,
    1640, 1657, 1680, 1702, 1708, 1716, 1725, 1729, 1735, 1741, 1750, 1759, 1770, 1780, 1784, 1798,
    1810, 1815, 1824, 1841, 1857, 1874, 1879, 1886, 1893, 1909, 1914, 1924, 1936, 1948, 1961, 1968,
    1973, 1980, 1985, 1992, 1997, 2003, 2011, 2015, 2020, 2030, 2035, 2048, 2058, 2068, 2076, 2079,
    2092, 2101, 2108, 2123, 2145, 2157, 2176, 2185, 2191, 2196, 2202, 2208, 2214, 2220, 2225, 2236,
    2243, 2253, 2259, 2276, 2285, 2295, 2305, 2309, 2317, 2325, 2336, 2343, 2351, 2355, 2372, 2381,
    2395, 2401, 2408, 2413, 2429, 2443, 2458, 2473, 2484, 2495, 2505, 2522, 2526, 2531, 2541, 2551,
    2560, 2573, 2577, 2582, 2594, 2599, 2606, 2612, 2619, 2628, 2643, 2659, 2675, 2692, 2696, 2702,
    2710, 2725, 2731, 2738, 2746, 2753, 2761, 2773, 2781, 2792, 2796, 2805, 2812, 2820, 2830, 2835,
    2841, 2845, 2853, 2861, 2876, 2883, 2899, 2910, 2923, 2929, 2937, 2946, 2957, 2972, 2990, 3003,
    3008, 3012, 3024, 3037, 3051, 3066, 3078, 3091, 3106, 3128, 3145, 3149, 3169, 3187, 3206, 3224,
    3234, 3256, 3278, 3295, 3308, 3322, 3340, 3361, 3389, 3406, 3419, 3433, 3451, 3462, 3469, 3477,
    3483, 3489, 3495, 3500, 3510, 3527, 3531, 3539, 3549, 3557, 3564, 3570, 3583, 3606, 3621, 3636,
    3651, 3658, 3671, 3679, 3689, 3697, 3707, 3713, 3721, 3730, 3741, 3752, 3761, 3766, 3773, 3784,
    3792, 3802, 3811, 3822, 3831, 3842, 3850, 3860, 3869, 3875, 3885, 3897, 3903, 3911, 3919, 3929,
    3937, 3942, 3948, 3953, 3959, 3967, 3976, 3987, 3993, 4001, 4010, 4020, 4031, 4040, 4050, 4056,
    4066, 4076, 4082, 4092, 4099, 4107, 4111, 4117, 4123, 4131, 4140, 4145, 4150, 4154, 4166, 4177,
    4184, 4190, 4203, 4210, 4219, 4223, 4238, 4254, 4260, 4280, 4285, 4292, 4298, 4301, 4307, 4311,
    4323, 4335, 4351, 4364, 4379, 4392, 4407, 4414, 4428, 4443, 4460, 4475, 4492, 4497, 4502, 4510,
    4520, 4527, 4537, 4543, 4548, 4554, 4561, 4566, 4572, 4580, 4587, 4596, 4602, 4613, 4618, 4623,
    4628, 4633, 4642, 4658, 4664, 4669, 4676, 4680, 4687, 4695, 4702, 4707, 4713, 4720, 4725, 4731,
];

/// A name's numbers, by the column of the architecture: x86_64, x86, x32, aarch64, arm, riscv64, loongarch64, powerpc, powerpc64, s390x.
/// 0xffff where there is none; 0xf000 + n is ARM's private 0xf0000 + n; x32's are without their bit 30.
#[rustfmt::skip]
pub(super) static NUMBERS: [[u16; 10]; COUNT] = [
    [0xffff, 140, 0xffff, 0xffff, 140, 0xffff, 0xffff, 140, 140, 0xffff], // _llseek
    [0xffff, 142, 0xffff, 0xffff, 142, 0xffff, 0xffff, 142, 142, 0xffff], // _newselect
    [156, 149, 0xffff, 0xffff, 149, 0xffff, 0xffff, 149, 149, 149], // _sysctl
    [43, 0xffff, 43, 202, 285, 202, 202, 330, 330, 0xffff], // accept
    [288, 364, 288, 242, 366, 242, 242, 344, 344, 364], // accept4
    [21, 33, 21, 0xffff, 33, 0xffff, 0xffff, 33, 33, 33], // access
    [163, 51, 163, 89, 51, 89, 89, 51, 51, 51], // acct
    [248, 286, 248, 217, 309, 217, 217, 269, 269, 278], // add_key
    [159, 124, 159, 171, 124, 171, 171, 124, 124, 124], // adjtimex
    [183, 137, 183, 0xffff, 0xffff, 0xffff, 0xffff, 137, 137, 137], // afs_syscall
    [37, 27, 37, 0xffff, 0xffff, 0xffff, 0xffff, 27, 27, 27], // alarm
    [158, 384, 158, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // arch_prctl
    [0xffff, 0xffff, 0xffff, 0xffff, 270, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // arm_fadvise64_64
    [0xffff, 0xffff, 0xffff, 0xffff, 341, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // arm_sync_file_range
    [0xffff, 134, 0xffff, 0xffff, 134, 0xffff, 0xffff, 134, 134, 134], // bdflush
    [49, 361, 49, 200, 282, 200, 200, 327, 327, 361], // bind
    [321, 357, 321, 280, 386, 280, 280, 361, 361, 351], // bpf
    [0xffff, 17, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 17, 17, 0xffff], // break
    [0xffff, 0xffff, 0xffff, 0xffff, 0xf001, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // breakpoint
    [12, 45, 12, 214, 45, 214, 214, 45, 45, 45], // brk
    [0xffff, 0xffff, 0xffff, 0xffff, 0xf002, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // cacheflush
    [451, 451, 451, 451, 451, 451, 451, 451, 451, 451], // cachestat
    [125, 184, 125, 90, 184, 90, 90, 183, 183, 184], // capget
    [126, 185, 126, 91, 185, 91, 91, 184, 184, 185], // capset
    [80, 12, 80, 49, 12, 49, 49, 12, 12, 12], // chdir
    [90, 15, 90, 0xffff, 15, 0xffff, 0xffff, 15, 15, 15], // chmod
    [92, 182, 92, 0xffff, 182, 0xffff, 0xffff, 181, 181, 212], // chown
    [0xffff, 212, 0xffff, 0xffff, 212, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // chown32
    [161, 61, 161, 51, 61, 51, 51, 61, 61, 61], // chroot
    [305, 343, 305, 266, 372, 266, 266, 347, 347, 337], // clock_adjtime
    [0xffff, 405, 0xffff, 0xffff, 405, 0xffff, 0xffff, 405, 0xffff, 0xffff], // clock_adjtime64
    [229, 266, 229, 114, 264, 114, 114, 247, 247, 261], // clock_getres
    [0xffff, 406, 0xffff, 0xffff, 406, 0xffff, 0xffff, 406, 0xffff, 0xffff], // clock_getres_time64
    [228, 265, 228, 113, 263, 113, 113, 246, 246, 260], // clock_gettime
    [0xffff, 403, 0xffff, 0xffff, 403, 0xffff, 0xffff, 403, 0xffff, 0xffff], // clock_gettime64
    [230, 267, 230, 115, 265, 115, 115, 248, 248, 262], // clock_nanosleep
    [0xffff, 407, 0xffff, 0xffff, 407, 0xffff, 0xffff, 407, 0xffff, 0xffff], // clock_nanosleep_time64
    [227, 264, 227, 112, 262, 112, 112, 245, 245, 259], // clock_settime
    [0xffff, 404, 0xffff, 0xffff, 404, 0xffff, 0xffff, 404, 0xffff, 0xffff], // clock_settime64
    [56, 120, 56, 220, 120, 220, 220, 120, 120, 120], // clone
    [435, 435, 435, 435, 435, 435, 435, 435, 435, 435], // clone3
    [3, 6, 3, 57, 6, 57, 57, 6, 6, 6], // close
    [436, 436, 436, 436, 436, 436, 436, 436, 436, 436], // close_range
    [42, 362, 42, 203, 283, 203, 203, 328, 328, 362], // connect
    [326, 377, 326, 285, 391, 285, 285, 379, 379, 375], // copy_file_range
    [85, 8, 85, 0xffff, 8, 0xffff, 0xffff, 8, 8, 8], // creat
    [174, 127, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 127, 127, 127], // create_module
    [176, 129, 176, 106, 129, 106, 106, 129, 129, 129], // delete_module
    [32, 41, 32, 23, 41, 23, 23, 41, 41, 41], // dup
    [33, 63, 33, 0xffff, 63, 0xffff, 0xffff, 63, 63, 63], // dup2
    [292, 330, 292, 24, 358, 24, 24, 316, 316, 326], // dup3
    [213, 254, 213, 0xffff, 250, 0xffff, 0xffff, 236, 236, 249], // epoll_create
    [291, 329, 291, 20, 357, 20, 20, 315, 315, 327], // epoll_create1
    [233, 255, 233, 21, 251, 21, 21, 237, 237, 250], // epoll_ctl
    [214, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // epoll_ctl_old
    [281, 319, 281, 22, 346, 22, 22, 303, 303, 312], // epoll_pwait
    [441, 441, 441, 441, 441, 441, 441, 441, 441, 441], // epoll_pwait2
    [232, 256, 232, 0xffff, 252, 0xffff, 0xffff, 238, 238, 251], // epoll_wait
    [215, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // epoll_wait_old
    [284, 323, 284, 0xffff, 351, 0xffff, 0xffff, 307, 307, 318], // eventfd
    [290, 328, 290, 19, 356, 19, 19, 314, 314, 323], // eventfd2
    [59, 11, 520, 221, 11, 221, 221, 11, 11, 11], // execve
    [322, 358, 545, 281, 387, 281, 281, 362, 362, 354], // execveat
    [60, 1, 60, 93, 1, 93, 93, 1, 1, 1], // exit
    [231, 252, 231, 94, 248, 94, 94, 234, 234, 248], // exit_group
    [269, 307, 269, 48, 334, 48, 48, 298, 298, 300], // faccessat
    [439, 439, 439, 439, 439, 439, 439, 439, 439, 439], // faccessat2
    [221, 250, 221, 223, 0xffff, 223, 223, 233, 233, 253], // fadvise64
    [0xffff, 272, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 254, 0xffff, 0xffff], // fadvise64_64
    [285, 324, 285, 47, 352, 47, 47, 309, 309, 314], // fallocate
    [300, 338, 300, 262, 367, 262, 262, 323, 323, 332], // fanotify_init
    [301, 339, 301, 263, 368, 263, 263, 324, 324, 333], // fanotify_mark
    [81, 133, 81, 50, 133, 50, 50, 133, 133, 133], // fchdir
    [91, 94, 91, 52, 94, 52, 52, 94, 94, 94], // fchmod
    [268, 306, 268, 53, 333, 53, 53, 297, 297, 299], // fchmodat
    [452, 452, 452, 452, 452, 452, 452, 452, 452, 452], // fchmodat2
    [93, 95, 93, 55, 95, 55, 55, 95, 95, 207], // fchown
    [0xffff, 207, 0xffff, 0xffff, 207, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // fchown32
    [260, 298, 260, 54, 325, 54, 54, 289, 289, 291], // fchownat
    [72, 55, 72, 25, 55, 25, 25, 55, 55, 55], // fcntl
    [0xffff, 221, 0xffff, 0xffff, 221, 0xffff, 0xffff, 204, 0xffff, 0xffff], // fcntl64
    [75, 148, 75, 83, 148, 83, 83, 148, 148, 148], // fdatasync
    [193, 231, 193, 10, 231, 10, 10, 214, 214, 229], // fgetxattr
    [468, 468, 468, 468, 468, 468, 468, 468, 468, 468], // file_getattr
    [469, 469, 469, 469, 469, 469, 469, 469, 469, 469], // file_setattr
    [313, 350, 313, 273, 379, 273, 273, 353, 353, 344], // finit_module
    [196, 234, 196, 13, 234, 13, 13, 217, 217, 232], // flistxattr
    [73, 143, 73, 32, 143, 32, 32, 143, 143, 143], // flock
    [57, 2, 57, 0xffff, 2, 0xffff, 0xffff, 2, 2, 2], // fork
    [199, 237, 199, 16, 237, 16, 16, 220, 220, 235], // fremovexattr
    [431, 431, 431, 431, 431, 431, 431, 431, 431, 431], // fsconfig
    [190, 228, 190, 7, 228, 7, 7, 211, 211, 226], // fsetxattr
    [432, 432, 432, 432, 432, 432, 432, 432, 432, 432], // fsmount
    [430, 430, 430, 430, 430, 430, 430, 430, 430, 430], // fsopen
    [433, 433, 433, 433, 433, 433, 433, 433, 433, 433], // fspick
    [5, 108, 5, 80, 108, 80, 80, 108, 108, 108], // fstat
    [0xffff, 197, 0xffff, 0xffff, 197, 0xffff, 0xffff, 197, 0xffff, 0xffff], // fstat64
    [0xffff, 300, 0xffff, 0xffff, 327, 0xffff, 0xffff, 291, 0xffff, 0xffff], // fstatat64
    [138, 100, 138, 44, 100, 44, 44, 100, 100, 100], // fstatfs
    [0xffff, 269, 0xffff, 0xffff, 267, 0xffff, 0xffff, 253, 253, 266], // fstatfs64
    [74, 118, 74, 82, 118, 82, 82, 118, 118, 118], // fsync
    [0xffff, 35, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 35, 35, 0xffff], // ftime
    [77, 93, 77, 46, 93, 46, 46, 93, 93, 93], // ftruncate
    [0xffff, 194, 0xffff, 0xffff, 194, 0xffff, 0xffff, 194, 0xffff, 0xffff], // ftruncate64
    [202, 240, 202, 98, 240, 98, 98, 221, 221, 238], // futex
    [456, 456, 456, 456, 456, 456, 456, 456, 456, 456], // futex_requeue
    [0xffff, 422, 0xffff, 0xffff, 422, 0xffff, 0xffff, 422, 0xffff, 0xffff], // futex_time64
    [455, 455, 455, 455, 455, 455, 455, 455, 455, 455], // futex_wait
    [449, 449, 449, 449, 449, 449, 449, 449, 449, 449], // futex_waitv
    [454, 454, 454, 454, 454, 454, 454, 454, 454, 454], // futex_wake
    [261, 299, 261, 0xffff, 326, 0xffff, 0xffff, 290, 290, 292], // futimesat
    [177, 130, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 130, 130, 130], // get_kernel_syms
    [239, 275, 239, 236, 320, 236, 236, 260, 260, 269], // get_mempolicy
    [274, 312, 531, 100, 339, 100, 100, 299, 299, 305], // get_robust_list
    [211, 244, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // get_thread_area
    [0xffff, 0xffff, 0xffff, 0xffff, 0xf006, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // get_tls
    [309, 318, 309, 168, 345, 168, 168, 302, 302, 311], // getcpu
    [79, 183, 79, 17, 183, 17, 17, 182, 182, 183], // getcwd
    [78, 141, 78, 0xffff, 141, 0xffff, 0xffff, 141, 141, 141], // getdents
    [217, 220, 217, 61, 217, 61, 61, 202, 202, 220], // getdents64
    [108, 50, 108, 177, 50, 177, 177, 50, 50, 202], // getegid
    [0xffff, 202, 0xffff, 0xffff, 202, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // getegid32
    [107, 49, 107, 175, 49, 175, 175, 49, 49, 201], // geteuid
    [0xffff, 201, 0xffff, 0xffff, 201, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // geteuid32
    [104, 47, 104, 176, 47, 176, 176, 47, 47, 200], // getgid
    [0xffff, 200, 0xffff, 0xffff, 200, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // getgid32
    [115, 80, 115, 158, 80, 158, 158, 80, 80, 205], // getgroups
    [0xffff, 205, 0xffff, 0xffff, 205, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // getgroups32
    [36, 105, 36, 102, 105, 102, 102, 105, 105, 105], // getitimer
    [52, 368, 52, 205, 287, 205, 205, 332, 332, 368], // getpeername
    [121, 132, 121, 155, 132, 155, 155, 132, 132, 132], // getpgid
    [111, 65, 111, 0xffff, 65, 0xffff, 0xffff, 65, 65, 65], // getpgrp
    [39, 20, 39, 172, 20, 172, 172, 20, 20, 20], // getpid
    [181, 188, 181, 0xffff, 0xffff, 0xffff, 0xffff, 187, 187, 188], // getpmsg
    [110, 64, 110, 173, 64, 173, 173, 64, 64, 64], // getppid
    [140, 96, 140, 141, 96, 141, 141, 96, 96, 96], // getpriority
    [318, 355, 318, 278, 384, 278, 278, 359, 359, 349], // getrandom
    [120, 171, 120, 150, 171, 150, 150, 170, 170, 211], // getresgid
    [0xffff, 211, 0xffff, 0xffff, 211, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // getresgid32
    [118, 165, 118, 148, 165, 148, 148, 165, 165, 209], // getresuid
    [0xffff, 209, 0xffff, 0xffff, 209, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // getresuid32
    [97, 76, 97, 163, 0xffff, 163, 0xffff, 76, 76, 191], // getrlimit
    [98, 77, 98, 165, 77, 165, 165, 77, 77, 77], // getrusage
    [124, 147, 124, 156, 147, 156, 156, 147, 147, 147], // getsid
    [51, 367, 51, 204, 286, 204, 204, 331, 331, 367], // getsockname
    [55, 365, 542, 209, 295, 209, 209, 340, 340, 365], // getsockopt
    [186, 224, 186, 178, 224, 178, 178, 207, 207, 236], // gettid
    [96, 78, 96, 169, 78, 169, 169, 78, 78, 78], // gettimeofday
    [102, 24, 102, 174, 24, 174, 174, 24, 24, 199], // getuid
    [0xffff, 199, 0xffff, 0xffff, 199, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // getuid32
    [191, 229, 191, 8, 229, 8, 8, 212, 212, 227], // getxattr
    [464, 464, 464, 464, 464, 464, 464, 464, 464, 464], // getxattrat
    [0xffff, 32, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 32, 32, 0xffff], // gtty
    [0xffff, 112, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 112, 112, 112], // idle
    [175, 128, 175, 105, 128, 105, 105, 128, 128, 128], // init_module
    [254, 292, 254, 27, 317, 27, 27, 276, 276, 285], // inotify_add_watch
    [253, 291, 253, 0xffff, 316, 0xffff, 0xffff, 275, 275, 284], // inotify_init
    [294, 332, 294, 26, 360, 26, 26, 318, 318, 324], // inotify_init1
    [255, 293, 255, 28, 318, 28, 28, 277, 277, 286], // inotify_rm_watch
    [210, 249, 210, 3, 247, 3, 3, 231, 231, 247], // io_cancel
    [207, 246, 207, 1, 244, 1, 1, 228, 228, 244], // io_destroy
    [208, 247, 208, 4, 245, 4, 4, 229, 229, 245], // io_getevents
    [333, 385, 333, 292, 399, 292, 292, 388, 388, 382], // io_pgetevents
    [0xffff, 416, 0xffff, 0xffff, 416, 0xffff, 0xffff, 416, 0xffff, 0xffff], // io_pgetevents_time64
    [206, 245, 543, 0, 243, 0, 0, 227, 227, 243], // io_setup
    [209, 248, 544, 2, 246, 2, 2, 230, 230, 246], // io_submit
    [426, 426, 426, 426, 426, 426, 426, 426, 426, 426], // io_uring_enter
    [427, 427, 427, 427, 427, 427, 427, 427, 427, 427], // io_uring_register
    [425, 425, 425, 425, 425, 425, 425, 425, 425, 425], // io_uring_setup
    [16, 54, 514, 29, 54, 29, 29, 54, 54, 54], // ioctl
    [173, 101, 173, 0xffff, 0xffff, 0xffff, 0xffff, 101, 101, 0xffff], // ioperm
    [172, 110, 172, 0xffff, 0xffff, 0xffff, 0xffff, 110, 110, 0xffff], // iopl
    [252, 290, 252, 31, 315, 31, 31, 274, 274, 283], // ioprio_get
    [251, 289, 251, 30, 314, 30, 30, 273, 273, 282], // ioprio_set
    [0xffff, 117, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 117, 117, 117], // ipc
    [312, 349, 312, 272, 378, 272, 272, 354, 354, 343], // kcmp
    [320, 0xffff, 320, 294, 401, 294, 294, 382, 382, 381], // kexec_file_load
    [246, 283, 528, 104, 347, 104, 104, 268, 268, 277], // kexec_load
    [250, 288, 250, 219, 311, 219, 219, 271, 271, 280], // keyctl
    [62, 37, 62, 129, 37, 129, 129, 37, 37, 37], // kill
    [445, 445, 445, 445, 445, 445, 445, 445, 445, 445], // landlock_add_rule
    [444, 444, 444, 444, 444, 444, 444, 444, 444, 444], // landlock_create_ruleset
    [446, 446, 446, 446, 446, 446, 446, 446, 446, 446], // landlock_restrict_self
    [94, 16, 94, 0xffff, 16, 0xffff, 0xffff, 16, 16, 198], // lchown
    [0xffff, 198, 0xffff, 0xffff, 198, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // lchown32
    [192, 230, 192, 9, 230, 9, 9, 213, 213, 228], // lgetxattr
    [86, 9, 86, 0xffff, 9, 0xffff, 0xffff, 9, 9, 9], // link
    [265, 303, 265, 37, 330, 37, 37, 294, 294, 296], // linkat
    [50, 363, 50, 201, 284, 201, 201, 329, 329, 363], // listen
    [458, 458, 458, 458, 458, 458, 458, 458, 458, 458], // listmount
    [194, 232, 194, 11, 232, 11, 11, 215, 215, 230], // listxattr
    [465, 465, 465, 465, 465, 465, 465, 465, 465, 465], // listxattrat
    [195, 233, 195, 12, 233, 12, 12, 216, 216, 231], // llistxattr
    [0xffff, 53, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 53, 53, 0xffff], // lock
    [212, 253, 212, 18, 249, 18, 18, 235, 235, 110], // lookup_dcookie
    [198, 236, 198, 15, 236, 15, 15, 219, 219, 234], // lremovexattr
    [8, 19, 8, 62, 19, 62, 62, 19, 19, 19], // lseek
    [189, 227, 189, 6, 227, 6, 6, 210, 210, 225], // lsetxattr
    [459, 459, 459, 459, 459, 459, 459, 459, 459, 459], // lsm_get_self_attr
    [461, 461, 461, 461, 461, 461, 461, 461, 461, 461], // lsm_list_modules
    [460, 460, 460, 460, 460, 460, 460, 460, 460, 460], // lsm_set_self_attr
    [6, 107, 6, 0xffff, 107, 0xffff, 0xffff, 107, 107, 107], // lstat
    [0xffff, 196, 0xffff, 0xffff, 196, 0xffff, 0xffff, 196, 0xffff, 0xffff], // lstat64
    [28, 219, 28, 233, 220, 233, 233, 205, 205, 219], // madvise
    [453, 453, 453, 453, 453, 453, 453, 453, 453, 453], // map_shadow_stack
    [237, 274, 237, 235, 319, 235, 235, 259, 259, 268], // mbind
    [324, 375, 324, 283, 389, 283, 283, 365, 365, 356], // membarrier
    [319, 356, 319, 279, 385, 279, 279, 360, 360, 350], // memfd_create
    [447, 447, 447, 447, 0xffff, 447, 0xffff, 0xffff, 0xffff, 447], // memfd_secret
    [256, 294, 256, 238, 400, 238, 238, 258, 258, 287], // migrate_pages
    [27, 218, 27, 232, 219, 232, 232, 206, 206, 218], // mincore
    [83, 39, 83, 0xffff, 39, 0xffff, 0xffff, 39, 39, 39], // mkdir
    [258, 296, 258, 34, 323, 34, 34, 287, 287, 289], // mkdirat
    [133, 14, 133, 0xffff, 14, 0xffff, 0xffff, 14, 14, 14], // mknod
    [259, 297, 259, 33, 324, 33, 33, 288, 288, 290], // mknodat
    [149, 150, 149, 228, 150, 228, 228, 150, 150, 150], // mlock
    [325, 376, 325, 284, 390, 284, 284, 378, 378, 374], // mlock2
    [151, 152, 151, 230, 152, 230, 230, 152, 152, 152], // mlockall
    [9, 90, 9, 222, 0xffff, 222, 222, 90, 90, 90], // mmap
    [0xffff, 192, 0xffff, 0xffff, 192, 0xffff, 0xffff, 192, 0xffff, 0xffff], // mmap2
    [154, 123, 154, 0xffff, 0xffff, 0xffff, 0xffff, 123, 123, 0xffff], // modify_ldt
    [165, 21, 165, 40, 21, 40, 40, 21, 21, 21], // mount
    [442, 442, 442, 442, 442, 442, 442, 442, 442, 442], // mount_setattr
    [429, 429, 429, 429, 429, 429, 429, 429, 429, 429], // move_mount
    [279, 317, 533, 239, 344, 239, 239, 301, 301, 310], // move_pages
    [10, 125, 10, 226, 125, 226, 226, 125, 125, 125], // mprotect
    [0xffff, 56, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 56, 56, 0xffff], // mpx
    [245, 282, 245, 185, 279, 185, 185, 267, 267, 276], // mq_getsetattr
    [244, 281, 527, 184, 278, 184, 184, 266, 266, 275], // mq_notify
    [240, 277, 240, 180, 274, 180, 180, 262, 262, 271], // mq_open
    [243, 280, 243, 183, 277, 183, 183, 265, 265, 274], // mq_timedreceive
    [0xffff, 419, 0xffff, 0xffff, 419, 0xffff, 0xffff, 419, 0xffff, 0xffff], // mq_timedreceive_time64
    [242, 279, 242, 182, 276, 182, 182, 264, 264, 273], // mq_timedsend
    [0xffff, 418, 0xffff, 0xffff, 418, 0xffff, 0xffff, 418, 0xffff, 0xffff], // mq_timedsend_time64
    [241, 278, 241, 181, 275, 181, 181, 263, 263, 272], // mq_unlink
    [25, 163, 25, 216, 163, 216, 216, 163, 163, 163], // mremap
    [462, 462, 462, 462, 462, 462, 462, 462, 462, 462], // mseal
    [71, 402, 71, 187, 304, 187, 187, 402, 402, 402], // msgctl
    [68, 399, 68, 186, 303, 186, 186, 399, 399, 399], // msgget
    [70, 401, 70, 188, 302, 188, 188, 401, 401, 401], // msgrcv
    [69, 400, 69, 189, 301, 189, 189, 400, 400, 400], // msgsnd
    [26, 144, 26, 227, 144, 227, 227, 144, 144, 144], // msync
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 201, 201, 0xffff], // multiplexer
    [150, 151, 150, 229, 151, 229, 229, 151, 151, 151], // munlock
    [152, 153, 152, 231, 153, 231, 231, 153, 153, 153], // munlockall
    [11, 91, 11, 215, 91, 215, 215, 91, 91, 91], // munmap
    [303, 341, 303, 264, 370, 264, 264, 345, 345, 335], // name_to_handle_at
    [35, 162, 35, 101, 162, 101, 101, 162, 162, 162], // nanosleep
    [262, 0xffff, 262, 79, 0xffff, 79, 79, 0xffff, 291, 293], // newfstatat
    [180, 169, 0xffff, 42, 169, 42, 42, 168, 168, 169], // nfsservctl
    [0xffff, 34, 0xffff, 0xffff, 34, 0xffff, 0xffff, 34, 34, 34], // nice
    [0xffff, 28, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 28, 28, 0xffff], // oldfstat
    [0xffff, 84, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 84, 84, 0xffff], // oldlstat
    [0xffff, 59, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 59, 59, 0xffff], // oldolduname
    [0xffff, 18, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 18, 18, 0xffff], // oldstat
    [0xffff, 109, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 109, 109, 0xffff], // olduname
    [2, 5, 2, 0xffff, 5, 0xffff, 0xffff, 5, 5, 5], // open
    [304, 342, 304, 265, 371, 265, 265, 346, 346, 336], // open_by_handle_at
    [428, 428, 428, 428, 428, 428, 428, 428, 428, 428], // open_tree
    [467, 467, 467, 467, 467, 467, 467, 467, 467, 467], // open_tree_attr
    [257, 295, 257, 56, 322, 56, 56, 286, 286, 288], // openat
    [437, 437, 437, 437, 437, 437, 437, 437, 437, 437], // openat2
    [34, 29, 34, 0xffff, 29, 0xffff, 0xffff, 29, 29, 29], // pause
    [0xffff, 0xffff, 0xffff, 0xffff, 271, 0xffff, 0xffff, 200, 200, 0xffff], // pciconfig_iobase
    [0xffff, 0xffff, 0xffff, 0xffff, 272, 0xffff, 0xffff, 198, 198, 0xffff], // pciconfig_read
    [0xffff, 0xffff, 0xffff, 0xffff, 273, 0xffff, 0xffff, 199, 199, 0xffff], // pciconfig_write
    [298, 336, 298, 241, 364, 241, 241, 319, 319, 331], // perf_event_open
    [135, 136, 135, 92, 136, 92, 92, 136, 136, 136], // personality
    [438, 438, 438, 438, 438, 438, 438, 438, 438, 438], // pidfd_getfd
    [434, 434, 434, 434, 434, 434, 434, 434, 434, 434], // pidfd_open
    [424, 424, 424, 424, 424, 424, 424, 424, 424, 424], // pidfd_send_signal
    [22, 42, 22, 0xffff, 42, 0xffff, 0xffff, 42, 42, 42], // pipe
    [293, 331, 293, 59, 359, 59, 59, 317, 317, 325], // pipe2
    [155, 217, 155, 41, 218, 41, 41, 203, 203, 217], // pivot_root
    [330, 381, 330, 289, 395, 289, 289, 384, 384, 385], // pkey_alloc
    [331, 382, 331, 290, 396, 290, 290, 385, 385, 386], // pkey_free
    [329, 380, 329, 288, 394, 288, 288, 386, 386, 384], // pkey_mprotect
    [7, 168, 7, 0xffff, 168, 0xffff, 0xffff, 167, 167, 168], // poll
    [271, 309, 271, 73, 336, 73, 73, 281, 281, 302], // ppoll
    [0xffff, 414, 0xffff, 0xffff, 414, 0xffff, 0xffff, 414, 0xffff, 0xffff], // ppoll_time64
    [157, 172, 157, 167, 172, 167, 167, 171, 171, 172], // prctl
    [17, 180, 17, 67, 180, 67, 67, 179, 179, 180], // pread64
    [295, 333, 534, 69, 361, 69, 69, 320, 320, 328], // preadv
    [327, 378, 546, 286, 392, 286, 286, 380, 380, 376], // preadv2
    [302, 340, 302, 261, 369, 261, 261, 325, 325, 334], // prlimit64
    [440, 440, 440, 440, 440, 440, 440, 440, 440, 440], // process_madvise
    [448, 448, 448, 448, 448, 448, 448, 448, 448, 448], // process_mrelease
    [310, 347, 539, 270, 376, 270, 270, 351, 351, 340], // process_vm_readv
    [311, 348, 540, 271, 377, 271, 271, 352, 352, 341], // process_vm_writev
    [0xffff, 44, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 44, 44, 0xffff], // prof
    [0xffff, 98, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 98, 98, 0xffff], // profil
    [270, 308, 270, 72, 335, 72, 72, 280, 280, 301], // pselect6
    [0xffff, 413, 0xffff, 0xffff, 413, 0xffff, 0xffff, 413, 0xffff, 0xffff], // pselect6_time64
    [101, 26, 521, 117, 26, 117, 117, 26, 26, 26], // ptrace
    [182, 189, 182, 0xffff, 0xffff, 0xffff, 0xffff, 188, 188, 189], // putpmsg
    [18, 181, 18, 68, 181, 68, 68, 180, 180, 181], // pwrite64
    [296, 334, 535, 70, 362, 70, 70, 321, 321, 329], // pwritev
    [328, 379, 547, 287, 393, 287, 287, 381, 381, 377], // pwritev2
    [178, 167, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 166, 166, 167], // query_module
    [179, 131, 179, 60, 131, 60, 60, 131, 131, 131], // quotactl
    [443, 443, 443, 443, 443, 443, 443, 443, 443, 443], // quotactl_fd
    [0, 3, 0, 63, 3, 63, 63, 3, 3, 3], // read
    [187, 225, 187, 213, 225, 213, 213, 191, 191, 222], // readahead
    [0xffff, 89, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 89, 89, 89], // readdir
    [89, 85, 89, 0xffff, 85, 0xffff, 0xffff, 85, 85, 85], // readlink
    [267, 305, 267, 78, 332, 78, 78, 296, 296, 298], // readlinkat
    [19, 145, 515, 65, 145, 65, 65, 145, 145, 145], // readv
    [169, 88, 169, 142, 88, 142, 142, 88, 88, 88], // reboot
    [0xffff, 0xffff, 0xffff, 0xffff, 291, 0xffff, 0xffff, 336, 336, 0xffff], // recv
    [45, 371, 517, 207, 292, 207, 207, 337, 337, 371], // recvfrom
    [299, 337, 537, 243, 365, 243, 243, 343, 343, 357], // recvmmsg
    [0xffff, 417, 0xffff, 0xffff, 417, 0xffff, 0xffff, 417, 0xffff, 0xffff], // recvmmsg_time64
    [47, 372, 519, 212, 297, 212, 212, 342, 342, 372], // recvmsg
    [216, 257, 216, 234, 253, 234, 234, 239, 239, 267], // remap_file_pages
    [197, 235, 197, 14, 235, 14, 14, 218, 218, 233], // removexattr
    [466, 466, 466, 466, 466, 466, 466, 466, 466, 466], // removexattrat
    [82, 38, 82, 0xffff, 38, 0xffff, 0xffff, 38, 38, 38], // rename
    [264, 302, 264, 38, 329, 0xffff, 0xffff, 293, 293, 295], // renameat
    [316, 353, 316, 276, 382, 276, 276, 357, 357, 347], // renameat2
    [249, 287, 249, 218, 310, 218, 218, 270, 270, 279], // request_key
    [219, 0, 219, 128, 0, 128, 128, 0, 0, 7], // restart_syscall
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 259, 0xffff, 0xffff, 0xffff, 0xffff], // riscv_flush_icache
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 258, 0xffff, 0xffff, 0xffff, 0xffff], // riscv_hwprobe
    [84, 40, 84, 0xffff, 40, 0xffff, 0xffff, 40, 40, 40], // rmdir
    [334, 386, 334, 293, 398, 293, 293, 387, 387, 383], // rseq
    [13, 174, 512, 134, 174, 134, 134, 173, 173, 174], // rt_sigaction
    [127, 176, 522, 136, 176, 136, 136, 175, 175, 176], // rt_sigpending
    [14, 175, 14, 135, 175, 135, 135, 174, 174, 175], // rt_sigprocmask
    [129, 178, 524, 138, 178, 138, 138, 177, 177, 178], // rt_sigqueueinfo
    [15, 173, 513, 139, 173, 139, 139, 172, 172, 173], // rt_sigreturn
    [130, 179, 130, 133, 179, 133, 133, 178, 178, 179], // rt_sigsuspend
    [128, 177, 523, 137, 177, 137, 137, 176, 176, 177], // rt_sigtimedwait
    [0xffff, 421, 0xffff, 0xffff, 421, 0xffff, 0xffff, 421, 0xffff, 0xffff], // rt_sigtimedwait_time64
    [297, 335, 536, 240, 363, 240, 240, 322, 322, 330], // rt_tgsigqueueinfo
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 255, 255, 0xffff], // rtas
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 378], // s390_guarded_storage
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 353], // s390_pci_mmio_read
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 352], // s390_pci_mmio_write
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 342], // s390_runtime_instr
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 380], // s390_sthyi
    [146, 159, 146, 125, 159, 125, 125, 159, 159, 159], // sched_get_priority_max
    [147, 160, 147, 126, 160, 126, 126, 160, 160, 160], // sched_get_priority_min
    [204, 242, 204, 123, 242, 123, 123, 223, 223, 240], // sched_getaffinity
    [315, 352, 315, 275, 381, 275, 275, 356, 356, 346], // sched_getattr
    [143, 155, 143, 121, 155, 121, 121, 155, 155, 155], // sched_getparam
    [145, 157, 145, 120, 157, 120, 120, 157, 157, 157], // sched_getscheduler
    [148, 161, 148, 127, 161, 127, 127, 161, 161, 161], // sched_rr_get_interval
    [0xffff, 423, 0xffff, 0xffff, 423, 0xffff, 0xffff, 423, 0xffff, 0xffff], // sched_rr_get_interval_time64
    [203, 241, 203, 122, 241, 122, 122, 222, 222, 239], // sched_setaffinity
    [314, 351, 314, 274, 380, 274, 274, 355, 355, 345], // sched_setattr
    [142, 154, 142, 118, 154, 118, 118, 154, 154, 154], // sched_setparam
    [144, 156, 144, 119, 156, 119, 119, 156, 156, 156], // sched_setscheduler
    [24, 158, 24, 124, 158, 124, 124, 158, 158, 158], // sched_yield
    [317, 354, 317, 277, 383, 277, 277, 358, 358, 348], // seccomp
    [185, 0xffff, 185, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // security
    [23, 82, 23, 0xffff, 0xffff, 0xffff, 0xffff, 82, 82, 142], // select
    [66, 394, 66, 191, 300, 191, 191, 394, 394, 394], // semctl
    [64, 393, 64, 190, 299, 190, 190, 393, 393, 393], // semget
    [65, 0xffff, 65, 193, 298, 193, 193, 0xffff, 0xffff, 0xffff], // semop
    [220, 0xffff, 220, 192, 312, 192, 192, 0xffff, 392, 392], // semtimedop
    [0xffff, 420, 0xffff, 0xffff, 420, 0xffff, 0xffff, 420, 0xffff, 0xffff], // semtimedop_time64
    [0xffff, 0xffff, 0xffff, 0xffff, 289, 0xffff, 0xffff, 334, 334, 0xffff], // send
    [40, 187, 40, 71, 187, 71, 71, 186, 186, 187], // sendfile
    [0xffff, 239, 0xffff, 0xffff, 239, 0xffff, 0xffff, 226, 0xffff, 0xffff], // sendfile64
    [307, 345, 538, 269, 374, 269, 269, 349, 349, 358], // sendmmsg
    [46, 370, 518, 211, 296, 211, 211, 341, 341, 370], // sendmsg
    [44, 369, 44, 206, 290, 206, 206, 335, 335, 369], // sendto
    [238, 276, 238, 237, 321, 237, 237, 261, 261, 270], // set_mempolicy
    [450, 450, 450, 450, 450, 450, 450, 450, 450, 450], // set_mempolicy_home_node
    [273, 311, 530, 99, 338, 99, 99, 300, 300, 304], // set_robust_list
    [205, 243, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // set_thread_area
    [218, 258, 218, 96, 256, 96, 96, 232, 232, 252], // set_tid_address
    [0xffff, 0xffff, 0xffff, 0xffff, 0xf005, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // set_tls
    [171, 121, 171, 162, 121, 162, 162, 121, 121, 121], // setdomainname
    [123, 139, 123, 152, 139, 152, 152, 139, 139, 216], // setfsgid
    [0xffff, 216, 0xffff, 0xffff, 216, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setfsgid32
    [122, 138, 122, 151, 138, 151, 151, 138, 138, 215], // setfsuid
    [0xffff, 215, 0xffff, 0xffff, 215, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setfsuid32
    [106, 46, 106, 144, 46, 144, 144, 46, 46, 214], // setgid
    [0xffff, 214, 0xffff, 0xffff, 214, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setgid32
    [116, 81, 116, 159, 81, 159, 159, 81, 81, 206], // setgroups
    [0xffff, 206, 0xffff, 0xffff, 206, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setgroups32
    [170, 74, 170, 161, 74, 161, 161, 74, 74, 74], // sethostname
    [38, 104, 38, 103, 104, 103, 103, 104, 104, 104], // setitimer
    [308, 346, 308, 268, 375, 268, 268, 350, 350, 339], // setns
    [109, 57, 109, 154, 57, 154, 154, 57, 57, 57], // setpgid
    [141, 97, 141, 140, 97, 140, 140, 97, 97, 97], // setpriority
    [114, 71, 114, 143, 71, 143, 143, 71, 71, 204], // setregid
    [0xffff, 204, 0xffff, 0xffff, 204, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setregid32
    [119, 170, 119, 149, 170, 149, 149, 169, 169, 210], // setresgid
    [0xffff, 210, 0xffff, 0xffff, 210, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setresgid32
    [117, 164, 117, 147, 164, 147, 147, 164, 164, 208], // setresuid
    [0xffff, 208, 0xffff, 0xffff, 208, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setresuid32
    [113, 70, 113, 145, 70, 145, 145, 70, 70, 203], // setreuid
    [0xffff, 203, 0xffff, 0xffff, 203, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setreuid32
    [160, 75, 160, 164, 75, 164, 0xffff, 75, 75, 75], // setrlimit
    [112, 66, 112, 157, 66, 157, 157, 66, 66, 66], // setsid
    [54, 366, 541, 208, 294, 208, 208, 339, 339, 366], // setsockopt
    [164, 79, 164, 170, 79, 170, 170, 79, 79, 79], // settimeofday
    [105, 23, 105, 146, 23, 146, 146, 23, 23, 213], // setuid
    [0xffff, 213, 0xffff, 0xffff, 213, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // setuid32
    [188, 226, 188, 5, 226, 5, 5, 209, 209, 224], // setxattr
    [463, 463, 463, 463, 463, 463, 463, 463, 463, 463], // setxattrat
    [0xffff, 68, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 68, 68, 0xffff], // sgetmask
    [30, 397, 30, 196, 305, 196, 196, 397, 397, 397], // shmat
    [31, 396, 31, 195, 308, 195, 195, 396, 396, 396], // shmctl
    [67, 398, 67, 197, 306, 197, 197, 398, 398, 398], // shmdt
    [29, 395, 29, 194, 307, 194, 194, 395, 395, 395], // shmget
    [48, 373, 48, 210, 293, 210, 210, 338, 338, 373], // shutdown
    [0xffff, 67, 0xffff, 0xffff, 67, 0xffff, 0xffff, 67, 67, 67], // sigaction
    [131, 186, 525, 132, 186, 132, 132, 185, 185, 186], // sigaltstack
    [0xffff, 48, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 48, 48, 48], // signal
    [282, 321, 282, 0xffff, 349, 0xffff, 0xffff, 305, 305, 316], // signalfd
    [289, 327, 289, 74, 355, 74, 74, 313, 313, 322], // signalfd4
    [0xffff, 73, 0xffff, 0xffff, 73, 0xffff, 0xffff, 73, 73, 73], // sigpending
    [0xffff, 126, 0xffff, 0xffff, 126, 0xffff, 0xffff, 126, 126, 126], // sigprocmask
    [0xffff, 119, 0xffff, 0xffff, 119, 0xffff, 0xffff, 119, 119, 119], // sigreturn
    [0xffff, 72, 0xffff, 0xffff, 72, 0xffff, 0xffff, 72, 72, 72], // sigsuspend
    [41, 359, 41, 198, 281, 198, 198, 326, 326, 359], // socket
    [0xffff, 102, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 102, 102, 102], // socketcall
    [53, 360, 53, 199, 288, 199, 199, 333, 333, 360], // socketpair
    [275, 313, 275, 76, 340, 76, 76, 283, 283, 306], // splice
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 279, 279, 0xffff], // spu_create
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 278, 278, 0xffff], // spu_run
    [0xffff, 69, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 69, 69, 0xffff], // ssetmask
    [4, 106, 4, 0xffff, 106, 0xffff, 0xffff, 106, 106, 106], // stat
    [0xffff, 195, 0xffff, 0xffff, 195, 0xffff, 0xffff, 195, 0xffff, 0xffff], // stat64
    [137, 99, 137, 43, 99, 43, 43, 99, 99, 99], // statfs
    [0xffff, 268, 0xffff, 0xffff, 266, 0xffff, 0xffff, 252, 252, 265], // statfs64
    [457, 457, 457, 457, 457, 457, 457, 457, 457, 457], // statmount
    [332, 383, 332, 291, 397, 291, 291, 383, 383, 379], // statx
    [0xffff, 25, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 25, 25, 0xffff], // stime
    [0xffff, 31, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 31, 31, 0xffff], // stty
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 310, 310, 0xffff], // subpage_prot
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 249, 249, 0xffff], // swapcontext
    [168, 115, 168, 225, 115, 225, 225, 115, 115, 115], // swapoff
    [167, 87, 167, 224, 87, 224, 224, 87, 87, 87], // swapon
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 363, 363, 0xffff], // switch_endian
    [88, 83, 88, 0xffff, 83, 0xffff, 0xffff, 83, 83, 83], // symlink
    [266, 304, 266, 36, 331, 36, 36, 295, 295, 297], // symlinkat
    [162, 36, 162, 81, 36, 81, 81, 36, 36, 36], // sync
    [277, 314, 277, 84, 0xffff, 84, 84, 0xffff, 0xffff, 307], // sync_file_range
    [0xffff, 0xffff, 0xffff, 0xffff, 341, 0xffff, 0xffff, 308, 308, 0xffff], // sync_file_range2
    [306, 344, 306, 267, 373, 267, 267, 348, 348, 338], // syncfs
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 256, 256, 0xffff], // sys_debug_setcontext
    [139, 135, 139, 0xffff, 135, 0xffff, 0xffff, 135, 135, 135], // sysfs
    [99, 116, 99, 179, 116, 179, 179, 116, 116, 116], // sysinfo
    [103, 103, 103, 116, 103, 116, 116, 103, 103, 103], // syslog
    [276, 315, 276, 77, 342, 77, 77, 284, 284, 308], // tee
    [234, 270, 234, 131, 268, 131, 131, 250, 250, 241], // tgkill
    [201, 13, 201, 0xffff, 0xffff, 0xffff, 0xffff, 13, 13, 0xffff], // time
    [222, 259, 526, 107, 257, 107, 107, 240, 240, 254], // timer_create
    [226, 263, 226, 111, 261, 111, 111, 244, 244, 258], // timer_delete
    [225, 262, 225, 109, 260, 109, 109, 243, 243, 257], // timer_getoverrun
    [224, 261, 224, 108, 259, 108, 108, 242, 242, 256], // timer_gettime
    [0xffff, 408, 0xffff, 0xffff, 408, 0xffff, 0xffff, 408, 0xffff, 0xffff], // timer_gettime64
    [223, 260, 223, 110, 258, 110, 110, 241, 241, 255], // timer_settime
    [0xffff, 409, 0xffff, 0xffff, 409, 0xffff, 0xffff, 409, 0xffff, 0xffff], // timer_settime64
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 317], // timerfd
    [283, 322, 283, 85, 350, 85, 85, 306, 306, 319], // timerfd_create
    [287, 326, 287, 87, 354, 87, 87, 312, 312, 321], // timerfd_gettime
    [0xffff, 410, 0xffff, 0xffff, 410, 0xffff, 0xffff, 410, 0xffff, 0xffff], // timerfd_gettime64
    [286, 325, 286, 86, 353, 86, 86, 311, 311, 320], // timerfd_settime
    [0xffff, 411, 0xffff, 0xffff, 411, 0xffff, 0xffff, 411, 0xffff, 0xffff], // timerfd_settime64
    [100, 43, 100, 153, 43, 153, 153, 43, 43, 43], // times
    [200, 238, 200, 130, 238, 130, 130, 208, 208, 237], // tkill
    [76, 92, 76, 45, 92, 45, 45, 92, 92, 92], // truncate
    [0xffff, 193, 0xffff, 0xffff, 193, 0xffff, 0xffff, 193, 0xffff, 0xffff], // truncate64
    [184, 0xffff, 184, 0xffff, 0xffff, 0xffff, 0xffff, 225, 225, 0xffff], // tuxcall
    [0xffff, 191, 0xffff, 0xffff, 191, 0xffff, 0xffff, 190, 190, 0xffff], // ugetrlimit
    [0xffff, 58, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 58, 58, 0xffff], // ulimit
    [95, 60, 95, 166, 60, 166, 166, 60, 60, 60], // umask
    [0xffff, 22, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 22, 22, 22], // umount
    [166, 52, 166, 39, 52, 39, 39, 52, 52, 52], // umount2
    [63, 122, 63, 160, 122, 160, 160, 122, 122, 122], // uname
    [87, 10, 87, 0xffff, 10, 0xffff, 0xffff, 10, 10, 10], // unlink
    [263, 301, 263, 35, 328, 35, 35, 292, 292, 294], // unlinkat
    [272, 310, 272, 97, 337, 97, 97, 282, 282, 303], // unshare
    [335, 0xffff, 335, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // uretprobe
    [134, 86, 0xffff, 0xffff, 86, 0xffff, 0xffff, 86, 86, 86], // uselib
    [323, 374, 323, 282, 388, 282, 282, 364, 364, 355], // userfaultfd
    [0xffff, 0xffff, 0xffff, 0xffff, 0xf003, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // usr26
    [0xffff, 0xffff, 0xffff, 0xffff, 0xf004, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // usr32
    [136, 62, 136, 0xffff, 62, 0xffff, 0xffff, 62, 62, 62], // ustat
    [132, 30, 132, 0xffff, 0xffff, 0xffff, 0xffff, 30, 30, 30], // utime
    [280, 320, 280, 88, 348, 88, 88, 304, 304, 315], // utimensat
    [0xffff, 412, 0xffff, 0xffff, 412, 0xffff, 0xffff, 412, 0xffff, 0xffff], // utimensat_time64
    [235, 271, 235, 0xffff, 269, 0xffff, 0xffff, 251, 251, 313], // utimes
    [58, 190, 58, 0xffff, 190, 0xffff, 0xffff, 189, 189, 190], // vfork
    [153, 111, 153, 58, 111, 58, 58, 111, 111, 111], // vhangup
    [0xffff, 166, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 113, 113, 0xffff], // vm86
    [0xffff, 113, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // vm86old
    [278, 316, 532, 75, 343, 75, 75, 285, 285, 309], // vmsplice
    [236, 273, 0xffff, 0xffff, 313, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], // vserver
    [61, 114, 61, 260, 114, 260, 260, 114, 114, 114], // wait4
    [247, 284, 529, 95, 280, 95, 95, 272, 272, 281], // waitid
    [0xffff, 7, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 7, 7, 0xffff], // waitpid
    [1, 4, 1, 64, 4, 64, 64, 4, 4, 4], // write
    [20, 146, 516, 66, 146, 66, 66, 146, 146, 146], // writev
];
