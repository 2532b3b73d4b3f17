/** How a server may read a path: less literally than a browser, which compares it as it is. */

/** No honest path is encoded more often. */
const mostLayers = 8

/**
 * What is not UTF-8 and may be more than a letter of an older encoding: half of a control character,
 * a space, a dot or a slash, in Latin-1, in the encodings of East Asia, or in overlong UTF-8; or
 * `%u002e`.
 */
const notLetters = /%([89u]|a[0-3]|c[01])/i

/** Encoded characters, decoded once. A letter in another encoding counts as nothing at all. */
const decodeOnce = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    if (notLetters.test(text)) throw cause
    return decodeURIComponent(text.replace(/%[a-f]./gi, ''))
  }
}

/**
 * The path as the most eager server might read it: decoded until nothing is left to decode, with
 * plain characters for their look-alikes. Undefined for what is not text, or wrapped too often.
 */
const readEagerly = (path: string): string | undefined => {
  try {
    let text = path
    for (let layer = 0; layer < mostLayers; layer++) {
      const decoded = text.replace(/(%[\da-f]{2})+|%u[\da-f]{4}/gi, decodeOnce).normalize('NFKC')
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

/**
 * The segments of a path as the most eager server reads them; undefined if a server may find dots
 * in it that the browser has not resolved, and so climb out of the folder that the path is in.
 *
 * An encoded slash is data within a segment (RFC 3986 2.2): a project of GitLab, a package of npm, a
 * URL as an id. Servers that take it, or a backslash, for a separator only see more segments, all
 * further down.
 */
export const segmentsRead = (pathname: string): string[] | undefined => {
  if (!/[%;]|\/\//.test(pathname)) return segmentsOf(pathname)
  const segments = readEagerly(pathname)?.split(/[/\\]/)
  if (!segments || segments.some((segment) => dotSegment.test(segment))) return
  return segments.map((segment) => segment.replace(/;.*/s, '')).filter(Boolean)
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
