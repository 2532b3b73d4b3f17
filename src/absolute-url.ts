/** Makes a URL absolute against this page's. Returns an invalid one unchanged. */
export const absoluteUrl = (url: string): string =>
  URL.canParse(url, location.href) ? new URL(url, location.href).href : url
