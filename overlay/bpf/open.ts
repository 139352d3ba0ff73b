// Opens the programs in one host's network namespace, with the maps of an earlier run.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { readLinks } from '../kernel/kernel.ts'
import { getLinks } from '../netlink/link.ts'
import { loadDatapath, readObjects, type Datapath } from './datapath.ts'
import { findPrograms } from './filter.ts'

/** Attaches nothing. @param netns null: the process's own @throws ERR_UNSUPPORTED with the reason, ERR_NETNS */
export function openDatapath(netns: string | null): Datapath {
  const socket = NetlinkSocket.open(netns)
  try {
    const attached = findPrograms(socket, readLinks(socket, getLinks()))
    return loadDatapath(readObjects(), [...new Set(attached.map(({ id }) => id))])
  } catch (err) {
    throw new VxmeshError('ERR_UNSUPPORTED', asVxmeshError(err).message, { cause: err })
  } finally {
    socket.close()
  }
}
