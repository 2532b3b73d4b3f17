/** How a server may read a path: less literally than a browser, which compares it as it is. */

/** No honest path is encoded more often. */
const mostLayers = 8

/**
 * The path as the most eager server might read it: decoded until nothing is left to decode, with
 * plain characters for their look-alikes. Undefined for what is not text, or wrapped too often.
 */
const readEagerly = (path: string): string | undefined => {
  try {
    let text = path
    for (let layer = 0; layer < mostLayers; layer++) {
      // Throws at what is not UTF-8: at dots and slashes in overlong forms, and at `%u002e`.
      const decoded = text
        .replace(/(%[\da-f]{2})+|%u[\da-f]{4}/gi, decodeURIComponent)
        .normalize('NFKC')
      if (decoded === text) return text
      text = decoded
    }
  } catch {
    // Not text.
  }
  return undefined
}

/** Dots, once a server has taken off white space, parameters or whatever it cuts a path at. */
const dotSegment = /^[\s\p{Cc}]*\.\.?([\s\p{Cc};?#]|$)/u

/** Do all servers agree on the segments of this path? No separator and no dots are in hiding. */
export const isPlainPath = (pathname: string): boolean => {
  if (!/[%;]/.test(pathname)) return true
  const segments = readEagerly(pathname)?.split(/[/\\]/)
  const isAsMany = segments?.length === pathname.split('/').length
  return isAsMany && !segments.some((segment) => dotSegment.test(segment))
}

/** One name for all the ways to spell the URL of an endpoint that a server may take for it. */
export const endpointOf = ({ origin, pathname }: URL): string => {
  const text = readEagerly(pathname) ?? pathname
  const path = `/${text.replace(/;[^/]*/g, '')}`.replace(/[/\\]+/g, '/')
  const resolved = new URL(`https://x${path}`).pathname.toLowerCase()
  return origin + resolved.replace(/\/$/, '')
}

/** The parts of a path, without the empty ones that a slash at either end makes. */
export const segmentsOf = (pathname: string): string[] => {
  const inner = pathname.replace(/^\/|\/$/g, '')
  return inner ? inner.split('/') : []
}
