import { PROBE_HEADER } from '../../src/shared/protocol.js'

/** An answer that the worker makes itself: its body says so, and why (RFC 9457). */
export const problem = (
  status: number,
  title: string,
  headers: Record<string, string> = { 'cache-control': 'no-store' },
): Response =>
  new Response(JSON.stringify({ title, status }), {
    status,
    headers: { ...headers, [PROBE_HEADER]: '1', 'content-type': 'application/problem+json' },
  })
