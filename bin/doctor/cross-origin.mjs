// What one origin may do with another: read its answers, count as the same site.

/** @typedef {import('./web.mjs').Answer} Answer */

/** Whether scripts of an origin may read an answer that was fetched without credentials. */
export const isReadable = (/** @type {Answer} */ { headers }, /** @type {string} */ origin) => {
  const allowed = headers.get('access-control-allow-origin')
  return allowed === '*' || allowed === origin
}

/** @param {Answer} answer @param {string} origin */
export const whyUnreadable = ({ headers }, origin) => {
  const allowed = headers.get('access-control-allow-origin')
  return allowed === null
    ? 'sends no Access-Control-Allow-Origin'
    : `sends Access-Control-Allow-Origin: ${allowed}, not ${origin}`
}

/** @param {Answer} answer @param {string} name @returns {string[]} */
export const headerList = ({ headers }, name) =>
  (headers.get(name) ?? '')
    .toLowerCase()
    .split(',')
    .map((item) => item.trim())

/** Whether scripts may see a header of an answer. @param {Answer} answer @param {string} name */
export const isExposed = (answer, name) => {
  const exposed = headerList(answer, 'access-control-expose-headers')
  return exposed.includes('*') || exposed.includes(name)
}

/** @param {string} hostname */
export const isLoopback = (hostname) =>
  /^(?:localhost|.+\.localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname)

// Below these, everybody has a name of their own.
const SHARED = [
  'azurewebsites.net',
  'cloudfront.net',
  'firebaseapp.com',
  'github.io',
  'herokuapp.com',
  'netlify.app',
  'onrender.com',
  'pages.dev',
  'vercel.app',
  'web.app',
  'workers.dev',
]
const SECOND_LEVEL = /^(?:ac|co|com|edu|gob|gov|gouv|mil|ne|net|or|org)$/

/**
 * The part of a host name that somebody has registered, approximately: the public suffix list,
 * which knows exactly, has ten thousand entries.
 *
 * @param {string} hostname
 */
export const siteOf = (hostname) => {
  if (isLoopback(hostname) || /^[\d.]+$|^\[/.test(hostname)) return hostname
  const labels = hostname.replace(/\.$/, '').split('.')
  const shared = SHARED.find((suffix) => hostname.endsWith(`.${suffix}`))
  const [second = '', top = ''] = labels.slice(-2)
  const size = shared ? shared.split('.').length + 1 : isCountryPair(second, top) ? 3 : 2
  return labels.slice(-size).join('.')
}

/** As in co.uk. @param {string} second @param {string} top */
const isCountryPair = (second, top) => top.length === 2 && SECOND_LEVEL.test(second)

/** @param {string} one @param {string} other URLs */
export const isSameSite = (one, other) => {
  const [a, b] = [new URL(one), new URL(other)]
  return a.protocol === b.protocol && siteOf(a.hostname) === siteOf(b.hostname)
}
