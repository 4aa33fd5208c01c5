"""Writers of reports: content to text, Markdown, HTML, JSON and JUnit."""
