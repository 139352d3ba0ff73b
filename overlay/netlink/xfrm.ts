// NETLINK_XFRM, by which IPsec is configured: how many policies there are, and who tells of changes. Pure.

import { attributesOf, readU32, Writer, type Message } from './bytes.ts'

export const NETLINK_XFRM = 6
export const XFRMNLGRP_POLICY = 4

const XFRM_MSG_GETSPDINFO = 0x25
const XFRMA_SPD_INFO = 1
/** The flags, 32 bits, with which a request and its answer begin. */
const HEADER_BYTES = 4

export function getPolicyCounts(): Message {
  return new Writer().u32(0).message(XFRM_MSG_GETSPDINFO, 0)
}

/** What arrives, what leaves, what is forwarded: policies of sockets, by which key exchange passes them by, are not counted. */
export type PolicyCounts = { readonly arriving: number; readonly leaving: number; readonly forwarded: number }

/** Decodes the payload of the answer; null when it is another message. */
export function decodePolicyCounts(payload: Uint8Array): PolicyCounts | null {
  const info = attributesOf(payload, HEADER_BYTES).get(XFRMA_SPD_INFO)
  if (info === undefined) return null
  const [arriving, leaving, forwarded] = [0, 4, 8].map(at => readU32(info.subarray(at, at + 4)))
  return typeof arriving === 'number' && typeof leaving === 'number' && typeof forwarded === 'number'
    ? { arriving, leaving, forwarded }
    : null
}
