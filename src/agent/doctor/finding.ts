// Builds findings. Pure.

import type { FindingView } from '#model/views.ts'

export function ok(id: string, found: string): FindingView {
  return { id, level: 'ok', found, todo: '' }
}

export function warning(id: string, found: string, todo: string): FindingView {
  return { id, level: 'warning', found, todo }
}

export function failed(id: string, found: string, todo: string): FindingView {
  return { id, level: 'failed', found, todo }
}

const LISTED = 8

/** The first few items, and the number of the others. */
export function some(items: readonly string[]): string {
  const more = items.length - LISTED
  return items.slice(0, LISTED).join('; ') + (more > 0 ? `; and ${more} more` : '')
}
