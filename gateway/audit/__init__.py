"""The audit trail: who asked for, got, sent, deleted or changed what (DICOM PS3.15 A.5).

``messages`` builds audit messages from values, without I/O. ``trail`` takes them from any thread and brings them out in
one of its own: to a file, one message a line, or to a collector by syslog (RFC 5424, over TCP framed as RFC 6587 has
it, or UDP). What a collector does not take is kept in a spool on disk, in order, until it does; a message that was
written there survives the process. What neither the collector nor the disk takes is lost, logged and counted.

An audit trail names patients and studies, since that is what it is for: its file, spool and collector are to be
protected like the images. The log and the metrics never do.
"""
