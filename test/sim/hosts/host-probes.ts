// Rare situations of whole hosts that a good simulation reaches.

export const HOST_PROBES = [
  'leader-elected',
  'cluster-founded',
  'host-joined-later',
  'host-restarted-from-its-disk',
  'power-cut',
  'ended-by-a-full-disk',
  'state-restored-from-a-snapshot',
  'entries-applied-during-a-snapshot',
  'became-a-voter',
  'became-a-follower-of-the-feed',
  'server-added',
  'server-removed',
  'leadership-transferred',
  'burst-of-proposals',
  'request-retried-by-the-proposer',
  'request-retried-by-the-client',
  'attach-without-an-answer',
  'unfinished-attach-released',
  'cluster-restarted-beside-a-stranger',
  'request-refused-in-a-flood',
  'read-index-served'
] as const
